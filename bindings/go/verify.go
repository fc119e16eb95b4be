package kogge

// #include "shim.h"
import "C"

import (
	"fmt"
	"io"
	"os"
)

// Trust is whom an offline verification believes.
type Trust struct {
	kind     C.int32_t
	document []byte
}

// TrustPolicy believes the keys in a policy (c2sp.org/tlog-policy), as Log.Policy gives it.
func TrustPolicy(policy []byte) Trust { return Trust{C.KOGGE_TRUST_POLICY, policy} }

// TrustGenesis believes the first authorized nodes of the network with a genesis, and whom they admitted.
func TrustGenesis(genesis []byte) Trust { return Trust{C.KOGGE_TRUST_GENESIS, genesis} }

// VerifyFile checks, without a node or a network, that a file is the artifact that a waybill is about,
// and that its entry is in a log that trust stands for. It gives the entry; ErrUnverified if anything
// does not hold.
func VerifyFile(path string, waybill []byte, trust Trust) (Entry, error) {
	return takeVerified(C.kg_verify_file(chars(path), size(path), octets(waybill), size(waybill),
		trust.kind, octets(trust.document), size(trust.document)))
}

// VerifyBytes is VerifyFile for bytes in memory.
func VerifyBytes(artifact, waybill []byte, trust Trust) (Entry, error) {
	return takeVerified(C.kg_verify_bytes(octets(artifact), size(artifact), octets(waybill), size(waybill),
		trust.kind, octets(trust.document), size(trust.document)))
}

// VerifyReader is VerifyFile for what reader gives, up to its end. Little of it is in memory at once.
func VerifyReader(reader io.Reader, waybill []byte, trust Trust) (Entry, error) {
	// The library reads the other end of a pipe as a file.
	read, write, err := os.Pipe()
	if err != nil {
		return Entry{}, &Error{Code: ErrIO, Message: "cannot make a pipe", Causes: []string{err.Error()}}
	}
	type answer struct {
		entry Entry
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		entry, err := VerifyFile(fmt.Sprintf("/dev/fd/%d", read.Fd()), waybill, trust)
		// Who copies is told when nobody reads.
		_ = read.Close()
		answers <- answer{entry, err}
	}()
	source := &erring{Reader: reader}
	_, _ = io.Copy(write, source)
	_ = write.Close()
	verified := <-answers
	if source.err != nil {
		return Entry{}, source.err
	}
	return verified.entry, verified.err
}

// erring remembers why reading failed.
type erring struct {
	io.Reader
	err error
}

func (e *erring) Read(bytes []byte) (int, error) {
	count, err := e.Reader.Read(bytes)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return count, err
}

func takeVerified(made C.kg_made) (Entry, error) {
	if err := check(made); err != nil {
		return Entry{}, err
	}
	defer C.kg_rows_free(made.handle)
	entries := entriesOf(made.handle)
	if len(entries) != 1 {
		return Entry{}, &Error{Code: ErrPanic, Message: "the library verified something else than one entry"}
	}
	return entries[0], nil
}
