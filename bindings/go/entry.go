package kogge

// #include "shim.h"
import "C"

import (
	"encoding/json"
	"math"
	"time"
)

// entriesMax is how many entries are read in one call of C.
const entriesMax = 128

// NotRemoved is Entry.Removed of an entry that none withdrew.
const NotRemoved = math.MaxUint64

// Entry is an entry of the log. What its kind does not have is empty; JSON has everything.
type Entry struct {
	// Index in the log, from 0.
	Index uint64
	// Height of the block that holds it, and its time; zero after offline verification, which knows
	// neither.
	Height uint64
	Time   time.Time
	// Removed is the index of the entry that withdrew it, or NotRemoved.
	Removed uint64
	// Kind is seal, add-artifact, remove-artifact, add-node, remove-node, bind-tag or attest.
	Kind string
	// PURL, File, MediaType, Size and the digests tell of the artifact.
	PURL      string
	File      string
	MediaType string
	Size      int64
	BLAKE3    BLAKE3
	SHA256    SHA256
	// JSON is all of the entry in the shape of `kogge log show --json`, if WithJSON asked for it.
	JSON json.RawMessage
}

func entriesOf(rows handle) []Entry {
	total := int(C.kg_rows_len(rows))
	entries := make([]Entry, 0, total)
	var page [entriesMax]C.kogge_entry
	for len(entries) < total {
		count := int(C.kg_rows_entries(rows, C.size_t(len(entries)), &page[0], entriesMax))
		for at := range page[:count] {
			entries = append(entries, entryOf(&page[at]))
		}
		if count == 0 {
			break
		}
	}
	return entries
}

func entryOf(it *C.kogge_entry) Entry {
	entry := Entry{
		Index:     uint64(it.index),
		Height:    uint64(it.height),
		Removed:   uint64(it.removed),
		Kind:      textOf(it.kind),
		PURL:      textOf(it.purl),
		File:      textOf(it.file),
		MediaType: textOf(it.media_type),
		Size:      int64(it.size),
		BLAKE3:    BLAKE3(bytesOf(it.blake3)),
		SHA256:    SHA256(bytesOf(it.sha256)),
	}
	if it.height != 0 {
		entry.Time = time.UnixMilli(int64(it.time_ms))
	}
	return entry
}

func addJSON(rows handle, entries []Entry) error {
	for at := range entries {
		json, err := takeBuffer(C.kg_rows_json(rows, C.size_t(at)))
		if err != nil {
			return err
		}
		entries[at].JSON = json
	}
	return nil
}
