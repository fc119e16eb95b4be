package kogge_test

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"kogge.dev/go/kogge"
)

// stored opens a node that has an artifact in its store.
func stored(b *testing.B, name string) (*kogge.Node, known) {
	scene := open(b)
	node, known := scene.node(b), scene.artifact(b, name)
	if _, err := node.Prefetch(within(b), known.digest()); err != nil {
		b.Fatal(err)
	}
	return node, known
}

// BenchmarkOpenToReady is the time from Open to a node that answers, with a cached network state.
func BenchmarkOpenToReady(b *testing.B) {
	scene := open(b)
	config := scene.config(b)
	scene.unchecked(b, config).Close()
	for b.Loop() {
		node, err := kogge.Open(context.Background(), config)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		node.Close()
		b.StartTimer()
	}
}

// BenchmarkFetchStored10KB is one call of FetchBytes.
func BenchmarkFetchStored10KB(b *testing.B) {
	node, known := stored(b, "tiny")
	ctx, what := context.Background(), known.digest()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := node.FetchBytes(ctx, what); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFetchStored10KBParallel is the same from several goroutines at once.
func BenchmarkFetchStored10KBParallel(b *testing.B) {
	node, known := stored(b, "tiny")
	ctx, what := context.Background(), known.digest()
	b.SetParallelism(16)
	b.RunParallel(func(loop *testing.PB) {
		for loop.Next() {
			if _, _, err := node.FetchBytes(ctx, what); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkOperation is what an operation costs that does next to nothing: the way there and back.
func BenchmarkOperation(b *testing.B) {
	node, _ := stored(b, "tiny")
	ctx := context.Background()
	for b.Loop() {
		if err := node.Live(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStream1GiB reads the largest artifact as often as makes 1 GiB.
func BenchmarkStream1GiB(b *testing.B) {
	node, known := stored(b, "large")
	const total = 1 << 30
	b.SetBytes(total)
	for b.Loop() {
		for done := int64(0); done < total; done += known.Size {
			artifact, err := node.Fetch(context.Background(), known.digest())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, artifact); err != nil {
				b.Fatal(err)
			}
			artifact.Close()
		}
	}
}

// BenchmarkLinkFile makes a file of the largest artifact by a hard link.
func BenchmarkLinkFile(b *testing.B) {
	node, known := stored(b, "large")
	path := filepath.Join(b.TempDir(), "file")
	for b.Loop() {
		if _, err := node.FetchFile(context.Background(), known.digest(), path, kogge.WithHardLink(), kogge.WithReplace()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuery1000 is a query of 1,000 entries; in a smaller log, as many queries as make 1,000.
func BenchmarkQuery1000(b *testing.B) {
	node, _ := stored(b, "tiny")
	const wanted = 1_000
	read := func() (count int) {
		for _, err := range node.Log().Query(context.Background(), "limit=1000") {
			if err != nil {
				b.Fatal(err)
			}
			if count++; count == wanted {
				break
			}
		}
		return count
	}
	b.ReportMetric(float64(read()), "entries/query")
	for b.Loop() {
		for left := wanted; left > 0; {
			left -= read()
		}
	}
}
