package access

// unknown is what Packer (1.12) gives for an attribute that a data source will
// fill in, while it only validates: data sources are not asked then.
const unknown = "<unknown>"

// Known reports whether all texts among values are known. What is not known
// yet cannot be wrong yet; it is checked again when the build begins.
func Known(values ...any) bool {
	for _, v := range values {
		if s, ok := v.(string); ok && s == unknown {
			return false
		}
	}
	return true
}
