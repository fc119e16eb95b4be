package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"iter"
	"runtime"
)

// Log is the transparency log as the node has it.
type Log struct{ node *Node }

// Log is the node's log.
func (n *Node) Log() Log { return Log{n} }

// QueryOption changes a query.
type QueryOption func(*query)

type query struct {
	token *string
	json  bool
}

// Resume goes on where another query of the same filters ended: at *token, from the beginning if that is
// empty. After each page whose last entry was used, *token is where the next begins; it is empty after
// the last. Who stops in the middle of a page sees that page again: `limit=` in the query is its size.
func Resume(token *string) QueryOption { return func(q *query) { q.token = token } }

// WithJSON fills Entry.JSON.
func WithJSON() QueryOption { return func(q *query) { q.json = true } }

// Query finds entries. The text has terms name=value, divided by spaces, that must all hold, as for
// `kogge log find`: package, purl, file, digest, publisher, node, source, commit, dependency, subject,
// tag, kind, since, until; and order (newest, oldest) and limit (entries at once, at most 1,000). What
// the log gains meanwhile is not seen.
//
// An error is the last that the iterator gives.
func (l Log) Query(ctx context.Context, text string, options ...QueryOption) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var query query
		for _, option := range options {
			option(&query)
		}
		if err := l.query(ctx, text, query, yield); err != nil {
			yield(Entry{}, err)
		}
	}
}

// query gives entries to yield; an error means that yield has not refused one.
func (l Log) query(ctx context.Context, text string, query query, yield func(Entry, error) bool) error {
	n := l.node
	defer runtime.KeepAlive(n)
	if err := n.enter(ctx); err != nil {
		return err
	}
	if query.token != nil && *query.token != "" {
		text += " after=" + *query.token
	}
	made := C.kg_cursor_open(n.node, chars(text), size(text))
	if err := check(made); err != nil {
		return n.explain(err)
	}
	cursor := made.handle
	defer C.kg_cursor_free(cursor)
	for {
		page, err := n.page(ctx, cursor, query.json)
		if err != nil {
			return err
		}
		for _, entry := range page {
			if !yield(entry, nil) {
				return nil
			}
		}
		if query.token != nil {
			token, err := takeBuffer(C.kg_cursor_token(cursor))
			if err != nil {
				return n.explain(err)
			}
			*query.token = string(token)
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// page gives the next entries; none after the last.
func (n *Node) page(ctx context.Context, cursor handle, withJSON bool) ([]Entry, error) {
	op, err := n.run(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_cursor_start(cursor, queue, tag)
	})
	if err != nil {
		return nil, err
	}
	made := C.kg_cursor_finish(op)
	if made.status == C.KOGGE_STATUS_END {
		C.kg_error_free(made.error)
		return nil, nil
	}
	if err := check(made); err != nil {
		return nil, err
	}
	defer C.kg_rows_free(made.handle)
	entries := entriesOf(made.handle)
	if withJSON {
		return entries, addJSON(made.handle, entries)
	}
	return entries, nil
}

// Checkpoint is the newest checkpoint: a signed note (C2SP) with the cosignatures of a quorum. ErrAgain
// if there is none yet.
func (l Log) Checkpoint(ctx context.Context) ([]byte, error) {
	return l.document(ctx, C.KG_CHECKPOINT, 0)
}

// Policy says whose signatures make a checkpoint of this network (c2sp.org/tlog-policy), for
// TrustPolicy on machines without a node.
func (l Log) Policy(ctx context.Context) ([]byte, error) { return l.document(ctx, C.KG_POLICY, 0) }

// Waybill proves offline that an entry is in the log (c2sp.org/tlog-proof): see VerifyFile. ErrAgain if
// no checkpoint covers it yet.
func (l Log) Waybill(ctx context.Context, index uint64) ([]byte, error) {
	return l.document(ctx, C.KG_WAYBILL, index)
}

// Proof says that an entry is in the log (RFC 6962), under the newest checkpoint that covers it.
type Proof struct {
	// Index of the entry.
	Index uint64 `json:"index"`
	// Size is how many entries that checkpoint covers, Root its Merkle root in hex.
	Size uint64 `json:"size"`
	Root string `json:"root"`
	// Path has the hashes from the leaf up, in hex.
	Path []string `json:"path"`
}

// Prove proves that an entry is in the log. ErrAgain if no checkpoint covers it yet.
func (l Log) Prove(ctx context.Context, index uint64) (Proof, error) {
	var proof Proof
	text, err := l.document(ctx, C.KG_PROOF, index)
	if err == nil {
		err = decode("proof", text, &proof)
	}
	return proof, err
}

func (l Log) document(ctx context.Context, kind C.kg_document, index uint64) ([]byte, error) {
	defer runtime.KeepAlive(l.node)
	if err := l.node.enter(ctx); err != nil {
		return nil, err
	}
	document, err := takeBuffer(C.kg_log_document(l.node.node, kind, C.uint64_t(index)))
	return document, l.node.explain(err)
}
