package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/xfeldman/aegisvm/api"
)

// failure says in one line what went wrong with a registry. The end of a
// context passes as it is.
func (r *Repository) failure(err error) error {
	var answer *transport.Error
	var ours *api.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &answer):
		return r.refusal(answer)
	case strings.HasPrefix(err.Error(), "manifest digest:"):
		return api.Errorf(api.InvalidArgument, "%s sent something else than was asked for: %s", r.Host(), oneLine(err.Error()))
	default:
		return r.trouble(err)
	}
}

// refusal is an answer that is none of the 200s.
func (r *Repository) refusal(e *transport.Error) error {
	what := Name{r.ref}.String()
	switch e.StatusCode {
	case http.StatusNotFound:
		return api.Errorf(api.NotFound, "%s has no %s: check the name and the tag", r.Host(), what)
	case http.StatusUnauthorized, http.StatusForbidden:
		return api.Errorf(api.Unavailable, "%s refuses to show %s: check the name, or log in with docker login %s", r.Host(), what, r.Host())
	case http.StatusTooManyRequests:
		return api.Errorf(api.Unavailable, "%s allows no more pulls for now: log in with docker login %s, or try again later", r.Host(), r.Host())
	default:
		return api.Errorf(api.Unavailable, "%s: %s: try again later", r.Host(), oneLine(e.Error()))
	}
}

// trouble is a failure below HTTP.
func (r *Repository) trouble(err error) error {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var cert *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.As(err, &dns):
		return api.Errorf(api.Unavailable, "%s: the host is not known, or DNS does not work: check the name and the network", r.Host())
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &cert):
		return api.Errorf(api.Unavailable, "%s: its certificate is not trusted: %s", r.Host(), oneLine(err.Error()))
	case errors.As(err, &network) && network.Timeout():
		return api.Errorf(api.Unavailable, "%s did not answer in time: check the network or try again later", r.Host())
	default:
		return api.Errorf(api.Unavailable, "%s: %w: %s", r.Host(), errFailed, oneLine(err.Error()))
	}
}

// Failed tells whether it was a connection that failed, so that another try
// may succeed.
func Failed(err error) bool { return errors.Is(err, errFailed) }

var errFailed = errors.New("the connection failed")

// oneLine makes what a stranger says fit for a terminal.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "..."
	}
	return text
}
