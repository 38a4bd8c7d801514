# Pins. A commit that changes them is a new template.
runner_version = "2.337.0"
runner_sha256  = "70920811a4f8ad4328818682bca5c6469c1c942fab52448868071d0063816613"
