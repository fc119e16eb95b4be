//go:build !kogge_static

package kogge

// #cgo pkg-config: kogge
import "C"
