package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// Time is a moment that the library tells in milliseconds since 1970.
type Time struct{ time.Time }

// UnmarshalJSON reads milliseconds since 1970.
func (t *Time) UnmarshalJSON(text []byte) error {
	millis, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return err
	}
	t.Time = time.UnixMilli(millis)
	return nil
}

// MarshalJSON writes milliseconds since 1970.
func (t Time) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, t.UnixMilli(), 10), nil
}

// Status is how a node stands.
type Status struct {
	// Version of the library.
	Version string `json:"version"`
	// Node is its identity in hex, PeerID the same as libp2p writes it.
	Node   string `json:"node"`
	PeerID string `json:"peer_id"`
	// Ready says that it has recovered and answers.
	Ready bool `json:"ready"`
	// Started is since when it runs.
	Started Time          `json:"started"`
	Network NetworkStatus `json:"network"`
	Log     LogStatus     `json:"log"`
	// Consensus is the node's part in agreement, nil if it has none.
	Consensus *ConsensusStatus `json:"consensus"`
	// Listen has the addresses where peers reach it.
	Listen []string `json:"listen"`
	// Peers counts the admitted ones.
	Peers    int            `json:"peers"`
	Store    StoreStatus    `json:"store"`
	Transfer TransferStatus `json:"transfer"`
	// BuildsOpen counts builds that are not finished.
	BuildsOpen int `json:"builds_open"`
}

// NetworkStatus is the network a node belongs to.
type NetworkStatus struct {
	Name   string `json:"name"`
	Origin string `json:"origin"`
	// Chain identifies the network.
	Chain string `json:"chain"`
	// Members are its authorized nodes.
	Members []MemberStatus `json:"members"`
	// Quorum is how many votes decide, FaultsMax how many members may fail meanwhile.
	Quorum    int `json:"quorum"`
	FaultsMax int `json:"faults_max"`
	// Me is the name of this node if it is authorized.
	Me string `json:"me"`
}

// MemberStatus is an authorized node as seen from here.
type MemberStatus struct {
	Name      string `json:"name"`
	Node      string `json:"node"`
	Connected bool   `json:"connected"`
}

// LogStatus is how far a node follows the log.
type LogStatus struct {
	// Height is the number of the last durable block, Block its identity, Time when it was made.
	Height uint64 `json:"height"`
	Block  string `json:"block"`
	Time   Time   `json:"time"`
	// Size is how many entries the log has, Root its Merkle root.
	Size uint64 `json:"size"`
	Root string `json:"root"`
	// State is searching, catching-up or live; Target is the highest block that peers claim.
	State  string `json:"state"`
	Target uint64 `json:"target"`
	// Checkpoint is the newest one, nil if there is none.
	Checkpoint *CheckpointStatus `json:"checkpoint"`
}

// CheckpointStatus is a cosigned head of the log.
type CheckpointStatus struct {
	Size    uint64 `json:"size"`
	Signers int    `json:"signers"`
	Time    Time   `json:"time"`
}

// ConsensusStatus is what an authorized node's agreement does.
type ConsensusStatus struct {
	// Height is being decided; nil if there is no work.
	Height    *uint64 `json:"height"`
	Connected int     `json:"connected"`
	// Waiting is why there is no progress.
	Waiting string `json:"waiting"`
}

// StoreStatus is what is stored. Unit: bytes, but for Artifacts.
type StoreStatus struct {
	Artifacts uint64 `json:"artifacts"`
	Bytes     uint64 `json:"bytes"`
	Quota     uint64 `json:"quota"`
	Pinned    uint64 `json:"pinned"`
}

// TransferStatus is what was moved since the start. Unit: bytes, but for the last two.
type TransferStatus struct {
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
	Upstream uint64 `json:"upstream"`
	// BadProofs and Spurious count what peers sent and was refused.
	BadProofs uint64 `json:"bad_proofs"`
	Spurious  uint64 `json:"spurious"`
}

// Peer is another node, or one that was turned away lately.
type Peer struct {
	Node   string `json:"node"`
	PeerID string `json:"peer_id"`
	// Member is its name if it is authorized.
	Member string `json:"member"`
	// State is connecting, admitted, refused or banned; Reason is why.
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Address string `json:"address"`
	Agent   string `json:"agent"`
	// Height is its last known one, nil if it told none.
	Height *uint64 `json:"height"`
	// RTTMicros is the round-trip time, nil if it is not known. Unit: microseconds.
	RTTMicros *uint64 `json:"rtt_us"`
	// Received and Sent are payload. Unit: bytes.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
}

// Metric is a number that the node keeps.
type Metric struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Kind  string `json:"kind"`
	Help  string `json:"help"`
	Value uint64 `json:"value"`
}

// Status asks how the node stands.
func (n *Node) Status(ctx context.Context) (Status, error) { return ask[Status](ctx, n, "status") }

// Peers asks for the peers, and the nodes that were turned away lately.
func (n *Node) Peers(ctx context.Context) ([]Peer, error) { return ask[[]Peer](ctx, n, "peers") }

// Metrics asks for all numbers that the node keeps.
func (n *Node) Metrics(ctx context.Context) ([]Metric, error) {
	return ask[[]Metric](ctx, n, "metrics")
}

// Genesis is the document that begins the node's network, for Config.Genesis and TrustGenesis.
func (n *Node) Genesis(ctx context.Context) ([]byte, error) { return n.Ask(ctx, "genesis", nil) }

// Ask asks about the node in an open shape: kogge_node_query_json of the C interface. params becomes a
// JSON object; it may be nil.
func (n *Node) Ask(ctx context.Context, topic string, params map[string]any) (json.RawMessage, error) {
	text := ""
	if params != nil {
		bytes, err := json.Marshal(params)
		if err != nil {
			return nil, invalid("params: %v", err)
		}
		text = string(bytes)
	}
	op, err := n.run(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_ask_start(n.node, queue, tag, chars(topic), size(topic), chars(text), size(text))
	})
	if err != nil {
		return nil, err
	}
	return takeBuffer(C.kg_ask_finish(op))
}

func ask[T any](ctx context.Context, n *Node, topic string) (T, error) {
	var answer T
	json, err := n.Ask(ctx, topic, nil)
	if err == nil {
		err = decode(topic, json, &answer)
	}
	return answer, err
}

// decode reads what the library wrote. It fails only if the library is newer and broke its promise.
func decode(what string, text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return &Error{Code: ErrUnsupported, Message: "the library's " + what + " is not understood", Causes: []string{err.Error()}}
	}
	return nil
}
