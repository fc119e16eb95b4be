//go:build !kogge_debug

package kogge

// madeAt is empty: a stack for each object costs too much.
func madeAt() string { return "" }

func report(string, string) {}
