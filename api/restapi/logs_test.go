package restapi

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestALogQueryIsReadAsItWasWritten(t *testing.T) {
	none, since, until := 0, time.Unix(1, 2).UTC(), time.Unix(3, 0).UTC()
	for _, want := range []api.LogQuery{
		{},
		{Follow: true, Since: &since, Until: &until, Tail: &none, Source: api.LogExec, ExecID: "a&b", Cursor: 1 << 50},
	} {
		values, err := url.ParseQuery(logValues(want).Encode())
		if err != nil {
			t.Fatal(err)
		}
		got, err := logQuery(values)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v%s", err, diff)
		}
	}
}

func TestALogQueryIsReadStrictly(t *testing.T) {
	for _, text := range []string{"folow=1", "follow=maybe", "since=yesterday", "until=", "tail=x", "cursor=1.5", "tail=1&tail=2"} {
		values, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logQuery(values); api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("%s: %v", text, err)
		}
	}
}
