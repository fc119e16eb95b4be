//go:build kogge_static

package kogge

// The archive comes first and leaves nothing for `-lkogge` of the package file, which would mean the
// shared library where both are installed.

// #cgo LDFLAGS: -Wl,--as-needed -l:libkogge.a
// #cgo pkg-config: --static kogge
import "C"
