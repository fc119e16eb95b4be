package kogge

// #include "shim.h"
import "C"

import (
	"encoding/hex"
	"unsafe"
)

// BLAKE3 is the digest by which artifacts are stored and exchanged.
type BLAKE3 [32]byte

// SHA256 is the digest by which most other tools know an artifact.
type SHA256 [32]byte

// String is "blake3:" and hex, which [Node.Fetch] and others take.
func (d BLAKE3) String() string { return "blake3:" + d.Hex() }

// Hex is the digest in lower-case hex.
func (d BLAKE3) Hex() string { return hex.EncodeToString(d[:]) }

// String is "sha256:" and hex, which [Node.Fetch] and others take.
func (d SHA256) String() string { return "sha256:" + d.Hex() }

// Hex is the digest in lower-case hex.
func (d SHA256) Hex() string { return hex.EncodeToString(d[:]) }

func bytesOf(it [32]C.uint8_t) [32]byte { return *(*[32]byte)(unsafe.Pointer(&it)) }
