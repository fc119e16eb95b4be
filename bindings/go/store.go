package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"runtime"
)

// Stored is an artifact that is stored here, whole.
type Stored struct {
	BLAKE3 BLAKE3
	SHA256 SHA256
	// Size in bytes.
	Size int64
	// Pinned says that it is exempt from eviction.
	Pinned bool
}

// Stat says what is stored under a digest ("blake3:…" or "sha256:…"); ErrNotFound if nothing is.
func (n *Node) Stat(ctx context.Context, digest string) (Stored, error) {
	defer runtime.KeepAlive(n)
	if err := n.enter(ctx); err != nil {
		return Stored{}, err
	}
	stat := C.kg_store_stat(n.node, chars(digest), size(digest))
	if err := takeError(stat.status, stat.error); err != nil {
		return Stored{}, n.explain(err)
	}
	return Stored{
		BLAKE3: BLAKE3(bytesOf(stat.stored.blake3)),
		SHA256: SHA256(bytesOf(stat.stored.sha256)),
		Size:   int64(stat.stored.size),
		Pinned: bool(stat.stored.is_pinned),
	}, nil
}

// Pin keeps a stored artifact from being evicted, or no longer does.
func (n *Node) Pin(ctx context.Context, digest string, pinned bool) error {
	flag := C.uint8_t(0)
	if pinned {
		flag = 1
	}
	op, err := n.run(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_pin_start(n.node, queue, tag, chars(digest), size(digest), flag)
	})
	if err != nil {
		return err
	}
	return check(C.kg_op_finish(op))
}

// Shrink evicts what was used least lately until at most bytesMax bytes are stored, or all that is left
// is pinned or in use. It gives the bytes that became free.
func (n *Node) Shrink(ctx context.Context, bytesMax int64) (int64, error) {
	if bytesMax < 0 {
		return 0, invalid("%d bytes are less than none", bytesMax)
	}
	op, err := n.run(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_shrink_start(n.node, queue, tag, C.uint64_t(bytesMax))
	})
	if err != nil {
		return 0, err
	}
	freed := C.kg_shrink_finish(op)
	return int64(freed.number), takeError(freed.status, freed.error)
}
