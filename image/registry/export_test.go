package registry

import "net/http"

// Via makes the client speak TLS by a transport of the test's.
func (c *Client) Via(t *http.Transport) { c.guard.secure = t }

// Followed is the rule by which redirections are followed.
var Followed = followed
