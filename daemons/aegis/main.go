// Command aegis is the CLI: it asks aegisd, through api.Aegis, for everything
// that it shows or does.
package main

import (
	"os"

	"github.com/xfeldman/aegisvm/daemons/aegis/command"
)

func main() { os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
