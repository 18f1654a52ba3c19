package command

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// using is an aegisd that notes which secrets an instance is to get.
type using struct {
	*livingAegis
	used    []string
	running bool
}

func (u *using) UseSecrets(_ context.Context, ref string, names []string) (api.UsedSecrets, error) {
	if ref != "web" {
		return api.UsedSecrets{}, api.Errorf(api.NotFound, "no instance %q", ref)
	}
	u.used = append([]string{}, names...)
	return api.UsedSecrets{Keys: u.used, RestartRequired: u.running}, nil
}

func TestTheSecretsOfAnInstanceAreReplaced(t *testing.T) {
	for _, c := range []struct {
		line, stdout, stderr string
		code                 int
		used                 []string
	}{
		{"instance secrets web A B", "A\nB\n", "aegis: the program that runs keeps what it has until: aegis instance restart web\n", 0, []string{"A", "B"}},
		{"instance secrets web *", "*\n", "aegis: the program that", 0, []string{"*"}},
		{"instance secrets web --none", "No secrets\n", "aegis: the program that", 0, []string{}},
		{"instance secrets web A -o json", `"restart_required": true`, "aegis: the program that", 0, []string{"A"}},
		{"instance secrets web", "KEY\n", "", 0, nil},
		{"instance secrets inst-2 -o json", `"secret_keys": []`, "", 0, nil},
		{"instance secrets nosuch A", "", "no instance", 1, nil},
		{"instance secrets web --none A", "", "both --none and names", 2, nil},
		{"instance secrets", "", "no name", 2, nil},
	} {
		u := &using{livingAegis: newLiving(), running: true}
		u.instances[0].SecretKeys = []string{"KEY"}
		serve(t, u)
		code, stdout, stderr := aegis(t, strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("%s: exit %d, %q, %q", c.line, code, stdout, stderr)
		}
		if diff := cmp.Diff(c.used, u.used); diff != "" {
			t.Errorf("%s: %s", c.line, diff)
		}
	}
}
