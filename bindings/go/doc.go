// Package kogge runs a node that finds, verifies and shares software artifacts between peers, against a
// transparency log that authorized nodes agree on. The node lives in this process: there is no daemon, no
// port, no configuration but what Config says.
//
//	node, err := kogge.Open(ctx, kogge.Config{DataDir: dir, Genesis: genesis, Peers: peers})
//	if err != nil {
//		return err
//	}
//	defer node.Close()
//	if err := node.Live(ctx); err != nil {
//		return err
//	}
//	artifact, err := node.Fetch(ctx, "org.example:lib:1.0", kogge.WithFile("lib-1.0.jar"))
//
// The context of a call ends the call, and what it began: the call returns when that has ended. Failures
// are of type *[Error]; errors.Is tells their [Code] and the end of a context. Node, Artifact and Log may be
// used by any number of goroutines at once.
//
// The package calls libkogge, which it finds by pkg-config; the tag kogge_static links it into the
// program, the tag kogge_debug reports objects that were not closed.
package kogge
