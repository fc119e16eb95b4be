package kogge

// #include "shim.h"
import "C"

import (
	"context"
)

// Build is how a build stands: authorized nodes fetch a package, each by itself, and add it to the log
// if they agree.
type Build struct {
	// ID identifies it: 64 hex digits.
	ID   string `json:"id"`
	Spec string `json:"spec"`
	// State is requested, running, attested, agreed, committed or failed.
	State string `json:"state"`
	// Final says that it is over.
	Final bool `json:"final"`
	// Index of the entry, nil unless it is committed.
	Index *uint64 `json:"index"`
	// Message says how it stands, for people.
	Message string `json:"message"`
	// Reason is why it failed, nil if it did not.
	Reason *BuildReason `json:"reason"`
	Quorum int          `json:"quorum"`
	// Requested is when it was first asked for.
	Requested Time `json:"requested"`
}

// BuildReason is why a build failed.
type BuildReason struct {
	// Kind is digests-differ, not-found, quorum-missing, timed-out or not-committed.
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// RequestBuild asks the authorized nodes to add a package to the log. spec is as for `kogge build`, such
// as "docker library/alpine:3.20" or "maven org.example:lib:1.0". Asking twice for the same gives the
// same build.
func (n *Node) RequestBuild(ctx context.Context, spec string) (Build, error) {
	return n.build(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_build_request_start(n.node, queue, tag, chars(spec), size(spec))
	})
}

// WaitBuild waits until a build is in the log or has failed. A build that failed is no error: see State
// and Reason.
func (n *Node) WaitBuild(ctx context.Context, id string) (Build, error) {
	return n.build(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_build_wait_start(n.node, queue, tag, chars(id), size(id))
	})
}

// Builds asks for all builds that this node knows.
func (n *Node) Builds(ctx context.Context) ([]Build, error) { return ask[[]Build](ctx, n, "builds") }

func (n *Node) build(ctx context.Context, start starter) (Build, error) {
	op, err := n.run(ctx, start)
	if err != nil {
		return Build{}, err
	}
	text, err := takeBuffer(C.kg_build_finish(op))
	if err != nil {
		return Build{}, err
	}
	var build Build
	err = decode("build", text, &build)
	return build, err
}
