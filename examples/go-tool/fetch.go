package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"kogge.dev/go/kogge"
)

// waybillInterval is how often a proof is asked for that no checkpoint covers yet.
const waybillInterval = 200 * time.Millisecond

// result is what became of one artifact, or of a name for which there is none.
type result struct {
	What     string  `json:"what"`
	File     string  `json:"file,omitempty"`
	Path     string  `json:"path,omitempty"`
	Waybill  string  `json:"waybill,omitempty"`
	Size     int64   `json:"size"`
	SHA256   string  `json:"sha256,omitempty"`
	BLAKE3   string  `json:"blake3,omitempty"`
	LogIndex *uint64 `json:"log_index,omitempty"`
	Store    int64   `json:"from_store"`
	Peers    int64   `json:"from_peers"`
	Placed   string  `json:"placed,omitempty"`
	Seconds  float64 `json:"seconds"`
	Error    string  `json:"error,omitempty"`
	err      error
}

func (r *result) fail(err error) {
	r.err, r.Error = err, err.Error()
}

// pairs tells names from files: after the first name, what has no colon is a file of the name before.
func pairs(arguments []string) []result {
	var all []result
	for _, it := range arguments {
		if last := len(all) - 1; last >= 0 && all[last].File == "" && !strings.Contains(it, ":") {
			all[last].File = it
		} else {
			all = append(all, result{What: it})
		}
	}
	return all
}

// fetchAll fetches everything, some at once. An error is about all of it; others are in the results.
func fetchAll(ctx context.Context, node *kogge.Node, settings settings, stdout io.Writer, screen *screen) ([]result, error) {
	screen.say("asking the log")
	var results []result
	for _, it := range pairs(settings.names) {
		results = append(results, expand(ctx, node, it)...)
	}
	results, err := place(results, settings.output)
	if err != nil {
		return nil, err
	}
	var total int64
	for _, it := range results {
		total += it.Size
	}
	screen.expect(len(results), total)

	var group sync.WaitGroup
	slots := make(chan struct{}, settings.jobs)
	for at := range results {
		it := &results[at]
		if it.err != nil {
			screen.finish(at, it)
			continue
		}
		slots <- struct{}{}
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() { <-slots }()
			start := time.Now()
			if err := fetch(ctx, node, settings, stdout, it, func(done, _ int64) { screen.tell(at, done) }); err != nil {
				it.fail(err)
			}
			it.Seconds = time.Since(start).Seconds()
			screen.finish(at, it)
		}()
	}
	group.Wait()
	return results, nil
}

// expand gives one result for each file that a name stands for.
func expand(ctx context.Context, node *kogge.Node, name result) []result {
	var options []kogge.Option
	if name.File != "" {
		options = append(options, kogge.WithFile(name.File))
	}
	entries, err := node.Resolve(ctx, name.What, options...)
	if err != nil {
		name.fail(err)
		return []result{name}
	}
	var all []result
	for _, entry := range entries {
		index := entry.Index
		all = append(all, result{
			What: name.What, File: entry.File, Size: entry.Size, LogIndex: &index,
			SHA256: entry.SHA256.Hex(), BLAKE3: entry.BLAKE3.Hex(),
		})
	}
	return all
}

// place says where files go. What is named twice goes there once.
func place(results []result, output string) ([]result, error) {
	results = once(results)
	info, err := os.Stat(output)
	isFolder := output == "" || strings.HasSuffix(output, "/") || err == nil && info.IsDir()
	if !isFolder && len(results) > 1 {
		if output == "-" {
			return nil, fmt.Errorf("%d artifacts do not fit into one output; name a FILE of the package", len(results))
		}
		isFolder = true
	}
	for at := range results {
		it := &results[at]
		switch {
		case it.err != nil:
		case !isFolder:
			it.Path = output
		default:
			// The log has what others wrote: a name must not lead out of the folder.
			name := filepath.Base(filepath.Clean("/" + it.File))
			if name == "/" || name == "." {
				name = it.SHA256
			}
			it.Path = filepath.Join(output, name)
		}
	}
	return results, apart(results)
}

// once drops what is there before.
func once(results []result) []result {
	type file struct{ name, sha256 string }
	seen := map[file]bool{}
	var kept []result
	for _, it := range results {
		key := file{it.File, it.SHA256}
		if it.err != nil || !seen[key] {
			kept = append(kept, it)
		}
		seen[key] = true
	}
	return kept
}

// apart refuses two artifacts at one place.
func apart(results []result) error {
	seen := map[string]bool{}
	for _, it := range results {
		if it.err != nil {
			continue
		}
		if seen[it.Path] {
			return fmt.Errorf("two artifacts would be %s; fetch them one by one with -o", it.Path)
		}
		seen[it.Path] = true
	}
	return nil
}

func fetch(ctx context.Context, node *kogge.Node, settings settings, stdout io.Writer, it *result, progress func(done, total int64)) error {
	what := "blake3:" + it.BLAKE3
	if it.Path == "-" {
		artifact, err := node.Fetch(ctx, what, kogge.WithProgress(progress))
		if err != nil {
			return err
		}
		defer artifact.Close()
		it.keep(artifact.Fetched)
		_, err = io.Copy(stdout, artifact)
		return err
	}
	options := []kogge.Option{kogge.WithProgress(progress), kogge.WithReflink()}
	if settings.force {
		options = append(options, kogge.WithReplace())
	}
	if settings.link {
		options = append(options, kogge.WithHardLink())
	}
	if err := os.MkdirAll(filepath.Dir(it.Path), 0o777); err != nil {
		return err
	}
	fetched, err := node.FetchFile(ctx, what, it.Path, options...)
	if errors.Is(err, kogge.ErrExists) {
		return fmt.Errorf("%w; --force replaces it", err)
	}
	if err != nil {
		return err
	}
	it.keep(fetched)
	it.Placed = fetched.Placed.String()
	if !settings.waybill {
		return nil
	}
	return prove(ctx, node, it)
}

func (r *result) keep(fetched kogge.Fetched) { r.Store, r.Peers = fetched.FromStore, fetched.FromPeers }

// prove writes the waybill of a file, and checks it as somebody without a node would.
func prove(ctx context.Context, node *kogge.Node, it *result) error {
	log := node.Log()
	waybill, err := log.Waybill(ctx, *it.LogIndex)
	for errors.Is(err, kogge.ErrAgain) {
		select {
		case <-time.After(waybillInterval):
			waybill, err = log.Waybill(ctx, *it.LogIndex)
		case <-ctx.Done():
			return fmt.Errorf("no checkpoint covers entry %d yet: %w", *it.LogIndex, ctx.Err())
		}
	}
	if err != nil {
		return err
	}
	policy, err := log.Policy(ctx)
	if err != nil {
		return err
	}
	if _, err := kogge.VerifyFile(it.Path, waybill, kogge.TrustPolicy(policy)); err != nil {
		return err
	}
	it.Waybill = it.Path + ".waybill"
	return os.WriteFile(it.Waybill, waybill, 0o666)
}
