package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestParseExpose(t *testing.T) {
	for text, want := range map[string]api.Expose{
		"80":                      {GuestPort: 80},
		"8080:80":                 {GuestPort: 80, PublicPort: 8080},
		"53/udp":                  {GuestPort: 53, Protocol: api.ProtocolUDP},
		"5432:5432/tcp":           {GuestPort: 5432, PublicPort: 5432, Protocol: api.ProtocolTCP},
		"0.0.0.0:80/http":         {Bind: "0.0.0.0", GuestPort: 80, Protocol: api.ProtocolHTTP},
		"10.0.0.1:8080:80":        {Bind: "10.0.0.1", GuestPort: 80, PublicPort: 8080},
		"127.0.0.1::80":           {Bind: "127.0.0.1", GuestPort: 80},
		"[::1]:80":                {Bind: "::1", GuestPort: 80},
		"[fe80::1%eth0]:8080:443": {Bind: "fe80::1%eth0", GuestPort: 443, PublicPort: 8080},
	} {
		got, err := api.ParseExpose(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
		if again, err := api.ParseExpose(got.String()); again != got || err != nil {
			t.Errorf("%s reads back as %+v, %v", got, again, err)
		}
	}
}

func TestParseExposeNamesWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":               `port ""`,
		"web":            `port "web"`,
		"0":              `port "0"`,
		"65536":          `port "65536"`,
		"-1":             `port "-1"`,
		"80:x":           `port "x"`,
		"x:80":           `port "x"`,
		"80/sctp":        `protocol "sctp"`,
		"80/":            `protocol ""`,
		"80/tcp/udp":     `protocol "tcp/udp"`,
		"localhost:1:80": `address "localhost"`,
		"::1:80":         `address ""`,
		"1.2.3:80":       `address "1.2.3"`,
		"[::1]80":        "without ]:",
		"[::1":           "without ]:",
		"1:2:3":          `address "1"`,
		"0.0.0.0:1:2:3":  `port "2:3"`,
	} {
		got, err := api.ParseExpose(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "expected") || got != (api.Expose{}) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
