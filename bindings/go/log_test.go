package kogge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"kogge.dev/go/kogge"
)

// all collects a query.
func all(t testing.TB, node *kogge.Node, query string, options ...kogge.QueryOption) []kogge.Entry {
	t.Helper()
	var entries []kogge.Entry
	for entry, err := range node.Log().Query(within(t), query, options...) {
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		entries = append(entries, entry)
	}
	return entries
}

func indexes(entries []kogge.Entry) []uint64 {
	var list []uint64
	for _, entry := range entries {
		list = append(list, entry.Index)
	}
	return list
}

func TestAQueryFindsWhatTheSceneHas(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	oldest := all(t, node, "kind=add-artifact order=oldest")
	for _, known := range scene.Artifacts {
		at := slices.IndexFunc(oldest, func(it kogge.Entry) bool { return it.Index == known.Index })
		if at < 0 || oldest[at].SHA256.Hex() != known.SHA256 || oldest[at].PURL != known.PURL {
			t.Errorf("%s is not there: %+v", known.Name, oldest)
		}
	}
	newest := indexes(all(t, node, "kind=add-artifact order=newest"))
	slices.Reverse(newest)
	if !slices.Equal(newest, indexes(oldest)) {
		t.Errorf("%v and %v", newest, oldest)
	}
	for _, entry := range all(t, node, "order=oldest limit=3", kogge.WithJSON()) {
		var row struct {
			Index uint64
			Kind  string
		}
		if err := json.Unmarshal(entry.JSON, &row); err != nil || row.Index != entry.Index || row.Kind != entry.Kind {
			t.Errorf("%s: %v", entry.JSON, err)
		}
	}
	if entries := all(t, node, "file=none.jar"); len(entries) != 0 {
		t.Errorf("%v", entries)
	}
}

func TestAQueryGoesOnWhereAnotherStopped(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	expected := indexes(all(t, node, "order=oldest"))
	for _, size := range []string{"1", "3", "1000"} {
		query := "order=oldest limit=" + size
		var token string
		var got []uint64
		for rounds := 0; ; rounds++ {
			if len(expected) < rounds {
				t.Fatal("it does not end")
			}
			isOver := true
			for entry, err := range node.Log().Query(within(t), query, kogge.Resume(&token)) {
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != 0 && entry.Index <= got[len(got)-1] {
					continue // The page where the last round stopped.
				}
				got = append(got, entry.Index)
				if len(got)%2 == 0 {
					isOver = false
					break
				}
			}
			if isOver {
				break
			}
		}
		if !slices.Equal(got, expected) || token != "" {
			t.Errorf("pages of %s: %v, token %q", size, got, token)
		}
	}
}

func TestABadQueryIsOneError(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	for _, query := range []string{"x", "colour=red", "limit=0", "order=none", "after=x", "limit=1001"} {
		count := 0
		for _, err := range node.Log().Query(within(t), query) {
			count++
			if !errors.Is(err, kogge.ErrInvalidArgument) {
				t.Errorf("%s: %v", query, err)
			}
		}
		if count != 1 {
			t.Errorf("%s: %d answers", query, count)
		}
	}
}

func TestProofsOfANodeHoldWithoutIt(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	log := node.Log()
	var policy, genesis []byte
	var err error
	if policy, err = log.Policy(within(t)); err != nil {
		t.Fatal(err)
	}
	if genesis, err = node.Genesis(within(t)); err != nil {
		t.Fatal(err)
	}
	var note []byte
	covers := func() bool {
		if note, err = log.Checkpoint(within(t)); err != nil && !errors.Is(err, kogge.ErrAgain) {
			t.Fatal(err)
		}
		return err == nil
	}
	eventually(t, "there is a checkpoint", covers)
	if !bytes.HasPrefix(note, []byte("kogge/e2e\n")) {
		t.Errorf("%s", note)
	}
	for _, known := range scene.Artifacts {
		proof, err := log.Prove(within(t), known.Index)
		if err != nil || proof.Index != known.Index || proof.Size <= known.Index || len(proof.Path) == 0 {
			t.Errorf("%+v, %v", proof, err)
		}
		waybill, err := log.Waybill(within(t), known.Index)
		if err != nil {
			t.Fatal(err)
		}
		for _, trust := range []kogge.Trust{kogge.TrustPolicy(policy), kogge.TrustGenesis(genesis)} {
			entry, err := kogge.VerifyFile(known.Path, waybill, trust)
			if err != nil || entry.Index != known.Index || entry.SHA256.Hex() != known.SHA256 {
				t.Errorf("%+v, %v", entry, err)
			}
		}
	}
	for _, call := range []func() error{
		func() error { _, err := log.Prove(within(t), 1<<40); return err },
		func() error { _, err := log.Waybill(within(t), 1<<40); return err },
	} {
		if err := call(); !errors.Is(err, kogge.ErrNotFound) && !errors.Is(err, kogge.ErrAgain) {
			t.Error(err)
		}
	}
}

func TestVerificationNeedsNoNode(t *testing.T) {
	scene := open(t)
	leaves(t)
	policy := kogge.TrustPolicy(read(t, scene.Policy))
	genesis := kogge.TrustGenesis(read(t, scene.Genesis))
	for _, known := range scene.Artifacts {
		waybill := read(t, known.Waybill)
		content := known.bytes(t)
		open := func() io.Reader {
			file, err := os.Open(known.Path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			return file
		}
		damaged := bytes.Clone(content)
		damaged[len(damaged)/2] ^= 1
		for name, it := range map[string]struct {
			verify   func() (kogge.Entry, error)
			expected error
		}{
			"file":            {func() (kogge.Entry, error) { return kogge.VerifyFile(known.Path, waybill, policy) }, nil},
			"bytes":           {func() (kogge.Entry, error) { return kogge.VerifyBytes(content, waybill, genesis) }, nil},
			"reader":          {func() (kogge.Entry, error) { return kogge.VerifyReader(open(), waybill, policy) }, nil},
			"small reads":     {func() (kogge.Entry, error) { return kogge.VerifyReader(iotest.HalfReader(open()), waybill, policy) }, nil},
			"damaged bytes":   {func() (kogge.Entry, error) { return kogge.VerifyBytes(damaged, waybill, policy) }, kogge.ErrUnverified},
			"nothing":         {func() (kogge.Entry, error) { return kogge.VerifyBytes(nil, waybill, policy) }, kogge.ErrUnverified},
			"damaged reader":  {func() (kogge.Entry, error) { return kogge.VerifyReader(bytes.NewReader(damaged), waybill, genesis) }, kogge.ErrUnverified},
			"damaged waybill": {func() (kogge.Entry, error) { return kogge.VerifyBytes(content, waybill[:len(waybill)/2], policy) }, kogge.ErrUnverified},
			"no waybill":      {func() (kogge.Entry, error) { return kogge.VerifyReader(open(), nil, policy) }, kogge.ErrUnverified},
			"no policy": {func() (kogge.Entry, error) {
				return kogge.VerifyBytes(content, waybill, kogge.TrustPolicy([]byte("x")))
			}, kogge.ErrInvalidArgument},
			"no trust": {func() (kogge.Entry, error) { return kogge.VerifyBytes(content, waybill, kogge.Trust{}) }, kogge.ErrInvalidArgument},
			"no file":  {func() (kogge.Entry, error) { return kogge.VerifyFile(known.Path+"x", waybill, policy) }, kogge.ErrNotFound},
			"no reader": {func() (kogge.Entry, error) {
				return kogge.VerifyReader(iotest.TimeoutReader(iotest.HalfReader(open())), waybill, policy)
			}, iotest.ErrTimeout},
		} {
			entry, err := it.verify()
			if !errors.Is(err, it.expected) {
				t.Errorf("%s, %s: %v", known.Name, name, err)
			}
			if it.expected == nil && (entry.Index != known.Index || entry.File != known.File) {
				t.Errorf("%s, %s: %+v", known.Name, name, entry)
			}
		}
	}
}

func TestABuildIsRequestedAndWaitedFor(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	// It is in the log already: asking again costs the scene nothing.
	build, err := node.RequestBuild(within(t), "maven "+scene.artifact(t, "tiny").What)
	if err != nil {
		t.Fatal(err)
	}
	done, err := node.WaitBuild(within(t), build.ID)
	if err != nil || done.ID != build.ID || !done.Final || done.Message == "" {
		t.Errorf("%+v, %v", done, err)
	}
	builds, err := node.Builds(within(t))
	if err != nil || !slices.ContainsFunc(builds, func(it kogge.Build) bool { return it.ID == build.ID }) {
		t.Errorf("%+v, %v", builds, err)
	}
	for _, it := range []struct {
		call     func() error
		expected error
	}{
		{func() error { _, err := node.RequestBuild(within(t), "cargo x:1"); return err }, kogge.ErrInvalidArgument},
		{func() error { _, err := node.WaitBuild(within(t), "x"); return err }, kogge.ErrInvalidArgument},
		{func() error { _, err := node.WaitBuild(within(t), strings.Repeat("0", 64)); return err }, kogge.ErrNotFound},
	} {
		if err := it.call(); !errors.Is(err, it.expected) {
			t.Errorf("%v, expected %v", err, it.expected)
		}
	}
}

func TestStoredArtifactsArePinnedAndEvicted(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	tiny, medium := scene.artifact(t, "tiny"), scene.artifact(t, "medium")
	if _, err := node.Stat(within(t), medium.digest()); !errors.Is(err, kogge.ErrNotFound) {
		t.Error(err)
	}
	for _, it := range []known{tiny, medium} {
		if _, err := node.Prefetch(within(t), it.digest()); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Pin(within(t), tiny.digest(), true); err != nil {
		t.Fatal(err)
	}
	stat, err := node.Stat(within(t), "blake3:"+tiny.BLAKE3)
	if err != nil || stat.Size != tiny.Size || stat.SHA256.Hex() != tiny.SHA256 || !stat.Pinned {
		t.Errorf("%+v, %v", stat, err)
	}
	freed := int64(0)
	// What was fetched a moment ago may still be in use.
	eventually(t, "the unpinned artifact is evicted", func() bool {
		now, err := node.Shrink(within(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		freed += now
		return freed >= medium.Size
	})
	if _, err := node.Stat(within(t), medium.digest()); !errors.Is(err, kogge.ErrNotFound) {
		t.Error(err)
	}
	if err := node.Pin(within(t), tiny.digest(), false); err != nil {
		t.Fatal(err)
	}
	if stat, err := node.Stat(within(t), tiny.digest()); err != nil || stat.Pinned {
		t.Errorf("%+v, %v", stat, err)
	}
	for _, call := range []func() error{
		func() error { return node.Pin(within(t), medium.digest(), true) },
		func() error { _, err := node.Stat(within(t), "sha256:00"); return err },
		func() error { _, err := node.Shrink(within(t), -1); return err },
	} {
		if err := call(); !errors.Is(err, kogge.ErrNotFound) && !errors.Is(err, kogge.ErrInvalidArgument) {
			t.Error(err)
		}
	}
}

func TestStatusPeersAndMetricsAreUnderstood(t *testing.T) {
	scene := open(t)
	before := time.Now().Add(-time.Minute)
	node := scene.node(t)
	status, err := node.Status(within(t))
	if err != nil || status.Node != node.ID().String() || status.Network.Name != "e2e" || !status.Ready ||
		status.Log.State != "live" || status.Log.Size == 0 || status.Started.Before(before) || status.Version != kogge.Version() {
		t.Errorf("%+v, %v", status, err)
	}
	eventually(t, "both peers are admitted", func() bool {
		peers, err := node.Peers(within(t))
		if err != nil {
			t.Fatal(err)
		}
		admitted := slices.DeleteFunc(peers, func(it kogge.Peer) bool { return it.State != "admitted" })
		return len(admitted) == len(scene.Peers)
	})
	metrics, err := node.Metrics(within(t))
	if err != nil || len(metrics) == 0 || metrics[0].Name == "" || metrics[0].Help == "" {
		t.Errorf("%+v, %v", metrics, err)
	}
	answer, err := node.Ask(within(t), "config", map[string]any{})
	if err != nil || !bytes.Contains(answer, []byte(scene.Peers[0])) {
		t.Errorf("%s, %v", answer, err)
	}
	if _, err := node.Ask(within(t), "weather", nil); !errors.Is(err, kogge.ErrUnsupported) {
		t.Error(err)
	}
}
