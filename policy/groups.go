package policy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// This file reads cache groups (RFC 9875). A response names the groups that it belongs to in Cache-Groups, a response to an unsafe
// request those that it makes doubtful in Cache-Group-Invalidation. Both are Lists of Strings of structured fields, whose parameters
// mean nothing; what does not parse, or has a member that is no String, is ignored whole. Groups are compared case-sensitively and belong
// to an origin: a group of another origin by the same name is another group.
//
// A stored response has one list of tags, in which its groups stand too, marked by a NUL in front: no tag has one.

const (
	groupsField            = "Cache-Groups"
	groupInvalidationField = "Cache-Group-Invalidation"

	groupMark = "\x00"
)

// GroupTag is how a group stands in a list of tags.
func GroupTag(name string) string { return groupMark + name }

// SplitTags parts a list of tags into what are tags and the names of what are groups. tags may be a part of list, which is left as it is.
func SplitTags(list []string) (tags, groups []string) {
	isGroup := func(tag string) bool { return strings.HasPrefix(tag, groupMark) }
	first := slices.IndexFunc(list, isGroup)
	if first < 0 {
		return list, nil
	}
	tags = list[:first:first]
	groups = make([]string, 0, len(list)-first)
	for _, tag := range list[first:] {
		if isGroup(tag) {
			groups = append(groups, tag[len(groupMark):])
		} else {
			tags = append(tags, tag)
		}
	}
	return tags, groups
}

// MergeTags appends to dst what of list it has not yet: for a response that is put together from two.
func MergeTags(dst, list []string) []string {
	for _, tag := range list {
		if !slices.Contains(dst, tag) {
			dst = append(dst, tag)
		}
	}
	return dst
}

// AppendGroups appends, as GroupTag makes them, the groups that a response belongs to (RFC 9875 section 2): 128 at the most, of 256 bytes at
// the most; what is over that is left out, and so is the empty group, by which nothing could be purged.
func AppendGroups(dst []string, h http.Header) []string {
	for _, name := range groupNames(h[groupsField]) {
		dst = append(dst, GroupTag(name))
	}
	return dst
}

// InvalidatedGroups returns the groups, each once and bounded as for AppendGroups, that a response makes doubtful (RFC 9875 section 3). It is
// for responses that Invalidates accepts: on those to safe requests, and on errors, the field is to be ignored. What belongs to the
// groups is invalidated and no more: its other groups are not (section 2.2, no cascade).
func InvalidatedGroups(h http.Header) []string { return groupNames(h[groupInvalidationField]) }

// groupNames reads the lines of one of the two fields.
func groupNames(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var names []string
	for _, member := range list {
		item, _ := member.(httpsfv.Item) // an inner list has no string value either
		name, ok := item.Value.(string)
		if !ok {
			return nil
		}
		if len(names) < maxTags {
			names = appendTag(names, name)
		}
	}
	return names
}
