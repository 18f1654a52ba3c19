// Package kernel is the guest's kernel: the configuration fragments, the script that builds it from the
// distribution's source (build) and the one that fetches the distribution's own kernel until then (distro).
//
// It holds no Go code but the test that the fragments mean what they say.
package kernel
