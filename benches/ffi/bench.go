// Figures of the Go package, one per line: name, tab, value.
//
// Usage: bench DATA_DIR WHAT_TINY WHAT_LARGE OUT_FOLDER, where both names are digests.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"kogge.dev/go/kogge"
)

const (
	opens   = 11
	calls   = 20_000
	links   = 21
	queries = 201
	streams = 3
)

// measure prints the median time of a step, in seconds.
func measure(name string, count int, step func() error) error {
	values := make([]float64, count)
	for at := range values {
		begin := time.Now()
		if err := step(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		values[at] = time.Since(begin).Seconds()
	}
	slices.Sort(values)
	fmt.Printf("%s\t%.9f\n", name, values[count/2])
	return nil
}

func run(arguments []string) error {
	if len(arguments) != 5 {
		return errors.New("usage: bench DATA_DIR WHAT_TINY WHAT_LARGE OUT_FOLDER")
	}
	dataDir, tiny, large := arguments[1], arguments[2], arguments[3]
	ctx := context.Background()
	config := kogge.Config{
		DataDir: dataDir,
		Network: kogge.NetworkStored,
		Limits:  kogge.Limits{DiskMB: 20_000},
	}
	var node *kogge.Node
	open := func() (err error) {
		node, err = kogge.Open(ctx, config)
		return err
	}
	values := make([]float64, opens)
	for at := range values {
		begin := time.Now()
		if err := open(); err != nil {
			return err
		}
		values[at] = time.Since(begin).Seconds()
		if err := node.Close(); err != nil {
			return err
		}
	}
	slices.Sort(values)
	fmt.Printf("open_s\t%.9f\n", values[opens/2])
	if err := open(); err != nil {
		return err
	}
	defer node.Close()

	if err := measure("fetch_10k_s", calls, func() error {
		_, _, err := node.FetchBytes(ctx, tiny)
		return err
	}); err != nil {
		return err
	}
	path := filepath.Join(arguments[4], "linked-by-go")
	if err := measure("link_s", links, func() error {
		_, err := node.FetchFile(ctx, large, path, kogge.WithHardLink(), kogge.WithReplace())
		return err
	}); err != nil {
		return err
	}
	if err := stream(ctx, node, large); err != nil {
		return err
	}
	return measure("query_1000_s", queries, func() error {
		count := 0
		for _, err := range node.Log().Query(ctx, "order=oldest limit=1000") {
			if err != nil {
				return err
			}
			if count++; count == 1000 {
				return nil
			}
		}
		return fmt.Errorf("the log has %d entries", count)
	})
}

func stream(ctx context.Context, node *kogge.Node, what string) error {
	values := make([]float64, streams)
	for at := range values {
		begin := time.Now()
		artifact, err := node.Fetch(ctx, what)
		if err != nil {
			return err
		}
		size, err := io.Copy(io.Discard, artifact)
		if err != nil {
			return err
		}
		if err := artifact.Close(); err != nil {
			return err
		}
		values[at] = float64(size) / 1e9 / time.Since(begin).Seconds()
	}
	slices.Sort(values)
	fmt.Printf("stream_gb_per_s\t%.9f\n", values[streams/2])
	return nil
}

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
