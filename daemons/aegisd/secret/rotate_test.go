package secret

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

func TestRotationLeavesNothingUnderTheOldKey(t *testing.T) {
	p := newPlace(t)
	k := p.keeper()
	p.set(k, "A", "1")
	p.set(k, "B", "2")
	old := p.read()
	if err := k.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, err := parseFile(p.read())
	if err != nil || len(keys) != 1 || bytes.Equal(old, p.read()) {
		t.Fatalf("keys after it: %d, %v", len(keys), err)
	}
	rows, err := p.db.AllSecrets(t.Context())
	for _, row := range rows {
		if row.KeyID != keys[0].id() {
			t.Errorf("%s is under key %s", row.Name, row.KeyID)
		}
	}
	if err != nil || len(rows) != 2 {
		t.Errorf("rows: %v, %v", rows, err)
	}
	p.want(p.keeper(), map[string]string{"A": "1", "B": "2"})
}

// cutting cuts a rotation short at a point around its transaction.
type cutting struct {
	*store.Store
	at string
}

func (c cutting) ResealSecrets(ctx context.Context, reseal func(store.Secret) (store.Secret, error)) error {
	switch c.at {
	case "before the transaction":
		return errCut
	case "within the transaction":
		n := 0
		return c.Store.ResealSecrets(ctx, func(s store.Secret) (store.Secret, error) {
			if n++; n == 2 {
				return s, errCut
			}
			return reseal(s)
		})
	default:
		if err := c.Store.ResealSecrets(ctx, reseal); err != nil {
			return err
		}
		return errCut
	}
}

func TestRotationCutShortAnywhereLosesNothing(t *testing.T) {
	want := map[string]string{"A": "1", "B": "2", "C": "3"}
	for _, at := range []string{"before the transaction", "within the transaction", "after the commit"} {
		t.Run(at, func(t *testing.T) {
			p := newPlace(t)
			k := p.keeper()
			for name, value := range map[string]string{"A": "1", "B": "2"} {
				p.set(k, name, value)
			}
			old := p.read()
			if err := p.keeperOver(cutting{p.db, at}).RotateKey(t.Context()); err == nil || p.lines() != 2 {
				t.Fatalf("the rotation was not cut: %v, %d keys", err, p.lines())
			}
			p.set(k, "C", "3") // the same daemon goes on
			p.want(k, want)
			p.want(p.keeper(), want) // the next one finishes it
			if p.lines() != 1 || bytes.Equal(p.read(), old) {
				t.Errorf("%d keys are left", p.lines())
			}
			p.want(p.keeper(), want)
		})
	}
}

// TestRotationsThatKeepFailingKeepTwoKeys: the file must not grow.
func TestRotationsThatKeepFailingKeepTwoKeys(t *testing.T) {
	p := newPlace(t)
	p.set(p.keeper(), "A", "1")
	k := p.keeperOver(cutting{p.db, "before the transaction"})
	for range 100 {
		if err := k.RotateKey(t.Context()); err == nil {
			t.Fatal("it did not fail")
		}
	}
	if p.lines() != 2 {
		t.Errorf("%d keys", p.lines())
	}
	p.want(p.keeper(), map[string]string{"A": "1"})
}

// TestRotationSurvivesKill runs itself as a child that rotates until it is
// killed.
func TestRotationSurvivesKill(t *testing.T) {
	if dir := os.Getenv("AEGIS_SECRET_CHILD"); dir != "" {
		rotateForEver(t, dir)
		return
	}
	p := newPlace(t)
	p.set(p.keeper(), "A", "1")
	p.set(p.keeper(), "B", "2")
	for round := range 3 {
		p.db.Close()
		rotateAndKill(t, p.dir, 3+round)
		p.open()
		p.want(p.keeper(), map[string]string{"A": "1", "B": "2"})
		if p.lines() != 1 {
			t.Errorf("%d keys are left", p.lines())
		}
	}
}

func rotateAndKill(t *testing.T, dir string, after int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestRotationSurvivesKill$")
	child.Env = append(os.Environ(), "AEGIS_SECRET_CHILD="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	rotated := 0
	for lines := bufio.NewScanner(out); rotated < after && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "rotated") {
			rotated++
		}
	}
	child.Process.Kill()
	child.Wait()
	if rotated < after {
		t.Fatalf("the child ended after %d rotations", rotated)
	}
}

func rotateForEver(t *testing.T, dir string) {
	p := &place{T: t, dir: dir}
	p.open()
	for k := p.keeper(); ; fmt.Println("rotated") {
		if err := k.RotateKey(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
