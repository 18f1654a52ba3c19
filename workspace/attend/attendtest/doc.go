// Package attendtest answers requests for workspaces in the process of a test.
package attendtest
