package kogge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kogge.dev/go/kogge"
)

// The examples run against the scene (see scene_test.go), whose four artifacts they know by name.
var demo struct {
	config   kogge.Config
	artifact known
	policy   []byte
}

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("KOGGE_SCENE") == "" {
		// Tests that need the scene skip themselves; examples cannot.
		if err := flag.Set("test.run", "^Test"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	folder, err := os.MkdirTemp("", "kogge-example")
	if err != nil {
		panic(err)
	}
	prepare(folder)
	status := m.Run()
	os.RemoveAll(folder)
	os.Exit(status)
}

func prepare(folder string) {
	must := func(path string) []byte {
		bytes, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		return bytes
	}
	var scene scene
	if err := json.Unmarshal(must(os.Getenv("KOGGE_SCENE")), &scene); err != nil {
		panic(err)
	}
	demo.config = kogge.Config{DataDir: filepath.Join(folder, "data"), Genesis: must(scene.Genesis), Peers: scene.Peers}
	demo.policy = must(scene.Policy)
	for _, it := range scene.Artifacts {
		if it.Name == "small" {
			demo.artifact = it
		}
	}
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// demo.config has a DataDir, the Genesis of a network, and Peers.
	node, err := kogge.Open(ctx, demo.config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	// Until then the node may not know what the network knows.
	if err := node.Live(ctx); err != nil {
		fmt.Println(err)
		return
	}
	content, fetched, err := node.FetchBytes(ctx, "org.example:lib:2", kogge.WithFile("lib-2.jar"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(content), "bytes, verified against entry", fetched.LogIndex)
	// Output: 100001 bytes, verified against entry 4
}

// live opens the node of the examples.
func live(ctx context.Context) *kogge.Node {
	node, err := kogge.Open(ctx, demo.config)
	if err != nil {
		panic(err)
	}
	if err := node.Live(ctx); err != nil {
		panic(err)
	}
	return node
}

func ExampleNode_Fetch() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	artifact, err := node.Fetch(ctx, "pkg:maven/org.example/lib@2", kogge.WithFile("lib-2.jar"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer artifact.Close()

	// It is read while it arrives.
	hash := sha256.New()
	if _, err := io.Copy(hash, artifact); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bytes.Equal(hash.Sum(nil), artifact.SHA256[:]))
	// Output: true
}

func ExampleNode_FetchFile() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	folder, _ := os.MkdirTemp("", "kogge")
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "lib.jar")
	// The same bytes on the same file system need no second place there.
	fetched, err := node.FetchFile(ctx, "org.example:lib:2", path, kogge.WithFile("lib-2.jar"), kogge.WithReflink())
	if err != nil {
		fmt.Println(err)
		return
	}
	info, _ := os.Stat(path)
	fmt.Println(info.Size() == fetched.Size)
	// Output: true
}

func ExampleNode_Resolve() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	entries, err := node.Resolve(ctx, "org.example:lib:2")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, entry := range entries {
		fmt.Println(entry.PURL, entry.File)
	}
	// Unordered output:
	// pkg:maven/org.example/lib@2 lib-2.jar
	// pkg:maven/org.example/lib@2 lib-2.pom
}

func ExampleLog_Query() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	for entry, err := range node.Log().Query(ctx, "file=lib-2.jar kind=add-artifact") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(entry.Index, entry.PURL, entry.Size)
	}
	// Output: 4 pkg:maven/org.example/lib@2 100001
}

func ExampleResume() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	// A page now, the next another time: the token is a text that can be stored.
	var token string
	for range 2 {
		for entry, err := range node.Log().Query(ctx, "kind=add-artifact file=lib-2.jar limit=1", kogge.Resume(&token)) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println(entry.File)
			break
		}
	}
	// Output:
	// lib-2.jar
	// lib-2.jar
}

func ExampleVerifyFile() {
	// The file, and its proof as Log.Waybill gave it; demo.policy is what Log.Policy gave. No node runs.
	waybill, err := os.ReadFile(demo.artifact.Waybill)
	if err != nil {
		fmt.Println(err)
		return
	}
	entry, err := kogge.VerifyFile(demo.artifact.Path, waybill, kogge.TrustPolicy(demo.policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("entry", entry.Index, entry.File)
	// Output: entry 4 lib-2.jar
}

func ExampleError() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	_, err := node.Resolve(ctx, "org.example:absent:1")
	var failure *kogge.Error
	switch {
	case errors.Is(err, kogge.ErrNotFound):
		fmt.Println("the log does not have it")
	case errors.As(err, &failure) && failure.Retryable():
		fmt.Println("later, perhaps:", failure.Message)
	}
	// Output: the log does not have it
}

func ExampleNode_Events() {
	ctx := context.Background()
	node := live(ctx)
	defer node.Close()

	events, err := node.Events(ctx, kogge.EventFilter{Kinds: []string{"live"}, Remembered: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for event := range events {
		fmt.Println(event.Kind)
		break
	}
	// Output: live
}
