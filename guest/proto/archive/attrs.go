package archive

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// attr is an extended attribute of a file.
type attr struct{ name, value string }

// attrRecord begins the names of PAX records with attributes, as GNU tar and
// star have it.
const attrRecord = "SCHILY.xattr."

// Bounds of the attributes of one file, and of those of folders that are held
// until the folders are filled. Package tar takes no header of more than 1 MiB.
const (
	maxAttrName  = 255
	maxAttrValue = 64 << 10
	maxAttrs     = 512 << 10
	maxHeld      = 16 << 20
)

const (
	capability = "security.capability"
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// carried tells whether an attribute may mean something elsewhere. Others are
// labels of one machine.
func carried(name string) bool {
	return strings.HasPrefix(name, "user.") || name == capability || isACL(name)
}

func isACL(name string) bool { return name == accessACL || name == defaultACL }

// takes tells whether an attribute of an archive is set. Access lists speak of
// users by number and go with the owners.
func (o Options) takes(name string) bool {
	switch {
	case isACL(name):
		return o.Owner
	case name == capability:
		return o.Capabilities
	default:
		return carried(name)
	}
}

// In a record's name "=" has a meaning of its own.
var (
	escapeAttr   = strings.NewReplacer("%", "%25", "=", "%3D")
	unescapeAttr = strings.NewReplacer("%25", "%", "%3D", "=")
)

// attrRecords reads the attributes of an open file. What cannot be packed is
// told.
func (p *packer) attrRecords(f *os.File, as string) map[string]string {
	all, err := readAttrs(f)
	if err != nil {
		p.lose(as, fmt.Errorf("its extended attributes: %w", err))
	}
	records, size := map[string]string{}, 0
	for _, a := range all {
		if size += len(a.name) + len(a.value); size > maxAttrs {
			p.lost.add(refuse(as, "its extended attributes have more than %d bytes", maxAttrs))
			return nil
		}
		records[attrRecord+escapeAttr.Replace(a.name)] = a.value
	}
	return records
}

// attrs takes the attributes that are to be set from the records of an entry.
func (o Options) attrs(records map[string]string) ([]attr, error) {
	var all []attr
	size := 0
	for key, value := range records {
		name, ok := strings.CutPrefix(key, attrRecord)
		if !ok {
			continue
		}
		if name = unescapeAttr.Replace(name); !o.takes(name) {
			continue
		}
		if len(name) > maxAttrName || len(value) > maxAttrValue {
			return nil, fmt.Errorf("an extended attribute of %d bytes with a name of %d, at most %d and %d are taken",
				len(value), len(name), maxAttrValue, maxAttrName)
		}
		if size += len(name) + len(value); size > maxAttrs {
			return nil, fmt.Errorf("extended attributes of more than %d bytes", maxAttrs)
		}
		all = append(all, attr{name, value})
	}
	slices.SortFunc(all, func(a, b attr) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// setAttrs sets attributes as far as the file system has such. What it has,
// and refuses, is told.
func (u *unpacker) setAttrs(f *os.File, e *entry, all []attr) {
	for _, a := range all {
		if err := writeAttr(f, a); err != nil {
			u.lost.add(refuse(e.name, "its extended attribute %s: %w", quote(a.name), err))
		}
	}
}
