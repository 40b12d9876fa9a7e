//go:build !unix

package holdfast

// maxDescriptors is not known here, where there is no such limit.
func maxDescriptors() (limit uint64, known bool) { return 0, false }
