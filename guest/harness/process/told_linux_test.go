package process

import (
	"errors"
	"fmt"
	"testing"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// A host's daemon may ask when the client has long heard the end.
func TestTheEndOfAProcessIsKnownAfterItsClientHeardIt(t *testing.T) {
	g := newGuest(t)
	r := g.run("sh", "-c", "exit 3")
	if st, err := proto.ReadStatus(r.status); err != nil || st.Code != 3 {
		t.Fatalf("status %+v, %v", st, err)
	}
	all(t, r.stdout)
	all(t, r.stderr)
	g.Drain(t.Context())
	if _, err := g.get(r.id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the process was kept: %v", err)
	}
	if st, err := g.Wait(t.Context(), r.id); err != nil || st.Code != 3 {
		t.Errorf("the end: %+v, %v", st, err)
	}
	spec := g.spec("sh", "-c", "exit 4")
	spec.ID = r.id
	if _, err := g.Table.Start(spec); err != nil {
		t.Fatal(err)
	}
	if st, err := g.Wait(t.Context(), r.id); err != nil || st.Code != 4 {
		t.Errorf("the end of the next one: %+v, %v", st, err)
	}
	if _, err := g.Wait(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("waiting for nobody: %v", err)
	}
}

func TestOnlySoManyEndsAreKept(t *testing.T) {
	var all told
	for i := range 3 * maxTold {
		all.note(fmt.Sprint(i), proto.ProcessStatus{Code: i % 256})
		all.note(fmt.Sprint(i), proto.ProcessStatus{Code: i % 128})
	}
	_, first := all.ends["0"]
	last := all.ends[fmt.Sprint(3*maxTold-1)]
	if len(all.ends) != maxTold || len(all.ids) != maxTold || first || last.Code != 127 {
		t.Errorf("%d ends of %d ids, the first %v, the last %+v", len(all.ends), len(all.ids), first, last)
	}
}
