package kogge_test

import (
	"runtime"
	"testing"

	"kogge.dev/go/kogge"
)

// forget makes a node and an artifact that nobody closes.
//
//go:noinline
func forget(t *testing.T, scene *scene) string {
	config := scene.config(t)
	node := scene.unchecked(t, config)
	artifact, err := node.Fetch(within(t), scene.artifact(t, "small").digest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return config.DataDir
}

func TestWhatIsForgottenIsClosedByTheGarbageCollector(t *testing.T) {
	scene := open(t)
	leaves(t)
	folder := forget(t, scene)
	eventually(t, "all handles are freed", func() bool {
		runtime.GC()
		return kogge.LiveHandles() == 0
	})
	node, err := kogge.Open(within(t), kogge.Config{DataDir: folder})
	if err != nil {
		t.Fatal(err)
	}
	node.Close()
}

func TestWhatIsInUseIsNotForgotten(t *testing.T) {
	scene := open(t)
	leaves(t)
	artifact := func() *kogge.Artifact {
		node := scene.unchecked(t, scene.config(t))
		artifact, err := node.Fetch(within(t), scene.artifact(t, "medium").digest())
		if err != nil {
			t.Fatal(err)
		}
		return artifact
	}()
	// Nothing but the artifact holds the node now.
	total := int64(0)
	for {
		runtime.GC()
		count, err := artifact.Read(make([]byte, 200_000))
		total += int64(count)
		if err != nil {
			break
		}
	}
	if total != artifact.Size {
		t.Errorf("%d of %d bytes", total, artifact.Size)
	}
	artifact.Close()
	artifact = nil
	eventually(t, "all handles are freed", func() bool {
		runtime.GC()
		return kogge.LiveHandles() == 0
	})
}
