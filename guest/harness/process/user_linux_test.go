package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func etc(t *testing.T, passwd, group string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestUsersAreLookedUp(t *testing.T) {
	root := etc(t, `root:x:0:0:root:/root:/bin/sh
# a comment
broken:x
bob:x:1000:1001:Bob:/home/bob:/bin/sh
homeless:x:1002:1002::
bob:x:7:7::/second:/bin/sh
4711:x:12:12::/named-by-digits:/bin/sh
`, `root:x:0:
wheel:x:10:alice,bob
bob:x:1001:bob
docker:x:20:bob
broken
other:x:30:alice
`)
	for user, want := range map[string]account{
		"":           {uid: 0, gid: 0, groups: []uint32{0}, name: "root", home: "/root"},
		"root":       {uid: 0, gid: 0, groups: []uint32{0}, name: "root", home: "/root"},
		"bob":        {uid: 1000, gid: 1001, groups: []uint32{1001, 10, 20}, name: "bob", home: "/home/bob"},
		"1000":       {uid: 1000, gid: 1001, groups: []uint32{1001, 10, 20}, name: "bob", home: "/home/bob"},
		"bob:wheel":  {uid: 1000, gid: 10, name: "bob", home: "/home/bob"},
		"bob:77":     {uid: 1000, gid: 77, name: "bob", home: "/home/bob"},
		"4242":       {uid: 4242, gid: 0, groups: []uint32{0}, home: "/"},
		"4242:4243":  {uid: 4242, gid: 4243, home: "/"},
		"4242:wheel": {uid: 4242, gid: 10, home: "/"},
		"4711":       {uid: 12, gid: 12, groups: []uint32{12}, name: "4711", home: "/named-by-digits"},
	} {
		got, err := lookup(root, user)
		if err != nil {
			t.Errorf("%q: %v", user, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(account{})); diff != "" {
			t.Errorf("%q: %s", user, diff)
		}
	}
}

func TestUnknownUsersAreRefusedByName(t *testing.T) {
	root := etc(t, "root:x:0:0::/root:/bin/sh\n", "root:x:0:\n")
	for user, want := range map[string]string{
		"bob":          `user "bob"`,
		"root:staff":   `group "staff"`,
		"-1":           `user "-1"`,
		"4294967295":   `user "4294967295"`,
		":root":        `user ":root"`,
		"root:":        `group ""`,
		"0:4294967295": `group "4294967295"`,
	} {
		if _, err := lookup(root, user); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %s", user, err, want)
		}
	}
}

func TestAnImageWithoutAccountsHasRootAndNumbers(t *testing.T) {
	root := t.TempDir()
	for user, uid := range map[string]uint32{"": 0, "0": 0, "5": 5} {
		if got, err := lookup(root, user); err != nil || got.uid != uid || got.home != "/" {
			t.Errorf("%q: %+v, %v", user, got, err)
		}
	}
	if _, err := lookup(root, "root"); err != nil {
		t.Errorf("root: %v", err)
	}
}
