// Vector prints what the scene that KOGGE_SCENE names looks like from Go, as one line of JSON: all
// bindings and the program itself must print the same.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"kogge.dev/go/kogge"
)

// limit is how long all of it may take.
const limit = 2 * time.Minute

type scene struct {
	Genesis, Policy string
	Peers           []string
	Artifacts       []struct{ Name, What, File, Path, Waybill string }
}

// Fields are in the order of their names, as encoding/json writes them.
type document struct {
	Artifacts []artifact `json:"artifacts"`
	Entries   [][4]any   `json:"entries"`
}

type artifact struct {
	BLAKE3          string `json:"blake3"`
	LogIndex        uint64 `json:"log_index"`
	Name            string `json:"name"`
	SHA256          string `json:"sha256"`
	Size            int64  `json:"size"`
	VerifiedOffline bool   `json:"verified_offline"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile(os.Getenv("KOGGE_SCENE"))
	if err != nil {
		return err
	}
	var scene scene
	if err := json.Unmarshal(text, &scene); err != nil {
		return err
	}
	genesis, err := os.ReadFile(scene.Genesis)
	if err != nil {
		return err
	}
	policy, err := os.ReadFile(scene.Policy)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "kogge-vector")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)

	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	node, err := kogge.Open(ctx, kogge.Config{DataDir: folder, Genesis: genesis, Peers: scene.Peers})
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Live(ctx); err != nil {
		return err
	}

	var document document
	for _, known := range scene.Artifacts {
		content, fetched, err := node.FetchBytes(ctx, known.What, kogge.WithFile(known.File))
		if err != nil {
			return err
		}
		waybill, err := os.ReadFile(known.Waybill)
		if err != nil {
			return err
		}
		entry, err := kogge.VerifyBytes(content, waybill, kogge.TrustPolicy(policy))
		if err != nil {
			return err
		}
		document.Artifacts = append(document.Artifacts, artifact{
			BLAKE3: fetched.BLAKE3.Hex(), LogIndex: fetched.LogIndex, Name: known.Name,
			SHA256: fetched.SHA256.Hex(), Size: fetched.Size,
			VerifiedOffline: entry.Index == fetched.LogIndex && entry.SHA256 == fetched.SHA256,
		})
	}
	for entry, err := range node.Log().Query(ctx, "kind=add-artifact order=oldest") {
		if err != nil {
			return err
		}
		document.Entries = append(document.Entries, [4]any{entry.Index, entry.PURL, entry.File, entry.SHA256.Hex()})
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	// Package URLs have an ampersand now and then.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return err
	}
	_, err = os.Stdout.Write(line.Bytes())
	return err
}
