package restapi

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

type document struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]struct {
			Properties map[string]json.RawMessage
		}
	}
}

func readDocument(t *testing.T) (d document) {
	t.Helper()
	b, err := os.ReadFile("openapi.json")
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpenAPIDescribesEveryEndpointAndNoOther(t *testing.T) {
	var described []string
	for path, operations := range readDocument(t).Paths {
		for method := range operations {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(described)
	served := slices.Sorted(maps.Keys(NewServer(nil, slog.Default()).routes()))
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("the router has (-), openapi.json has (+): %s", diff)
	}
}

func TestOpenAPIDescribesEveryFieldAndNoOther(t *testing.T) {
	schemas := readDocument(t).Components.Schemas
	for name, v := range map[string]any{
		"InstanceSpec": api.InstanceSpec{}, "Instance": api.Instance{}, "Sleep": api.Sleep{}, "Event": api.Event{}, "Status": api.Status{}, "Error": api.Error{},
		"Secret": api.Secret{}, "UsedSecrets": api.UsedSecrets{}, "Workspace": api.Workspace{},
		"NetworkPolicy": api.NetworkPolicy{}, "NetworkState": api.NetworkState{}, "NetworkCounter": api.NetworkCounter{},
		"Image": api.Image{}, "ImageProgress": api.ImageProgress{},
		"ExecSpec": api.ExecSpec{}, "ExecInfo": api.ExecInfo{}, "LogEntry": api.LogEntry{},
		"FileEntry": api.FileEntry{}, "Blob": api.Blob{},
		"CopyFromSpec": api.CopyFromSpec{}, "CopyToSpec": api.CopyToSpec{},
	} {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" {
				fields = append(fields, tag)
			}
		}
		slices.Sort(fields)
		if diff := cmp.Diff(fields, slices.Sorted(maps.Keys(schemas[name].Properties))); diff != "" {
			t.Errorf("%s has (-), openapi.json has (+): %s", name, diff)
		}
	}
}
