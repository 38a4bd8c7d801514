package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// distrust says what to do about a certificate of Proxmox that is not trusted,
// or an address that does not speak TLS; nothing about any other error. A
// node's own certificate is signed by its cluster's CA, which no system knows.
func distrust(err error) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name) && name.Certificate != nil:
		names := slices.Clone(name.Certificate.DNSNames)
		for _, ip := range name.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return fmt.Sprintf("set proxmox.server_name to a name that the certificate is for: %s", strings.Join(names, ", "))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return `look at the clock of this host ("timedatectl"); if it is right, renew the certificate on the node ("pvecm updatecerts")`
	case errorIs[*tls.CertificateVerificationError](err):
		return "set proxmox.ca_file to a copy of the cluster's own CA, which is /etc/pve/pve-root-ca.pem on each node"
	case errorIs[tls.RecordHeaderError](err):
		return "what listens there speaks no TLS: look at the port in proxmox.url, which is 8006 for Proxmox VE"
	}
	return ""
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
