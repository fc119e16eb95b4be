package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"kogge.dev/go/kogge"
)

// limit is how long a process may take.
const limit = 60 * time.Second

type scene struct {
	Genesis, Policy, Absent string
	Peers                   []string
	Artifacts               []known
}

type known struct {
	Name, What, PURL, File, SHA256, Path string
	Size                                 int64
	Index                                uint64
}

func (s *scene) artifact(name string) known {
	for _, it := range s.Artifacts {
		if it.Name == name {
			return it
		}
	}
	panic("the scene has no artifact " + name)
}

var program string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "kogge-get")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(folder, "kogge-get")
	if text, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Printf("%s\n", text)
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(folder)
	os.Exit(status)
}

func open(t *testing.T) *scene {
	path := os.Getenv("KOGGE_SCENE")
	if path == "" {
		t.Skip("KOGGE_SCENE is not set: start a network with `kogge-testkit scene FOLDER` and set it to the path that is printed")
	}
	var scene scene
	if err := json.Unmarshal(read(t, path), &scene); err != nil {
		t.Fatal(err)
	}
	return &scene
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// tool runs the program with a data directory that lasts as long as the test.
type tool struct {
	folder    string
	arguments []string
}

func (s *scene) tool(t *testing.T) *tool {
	folder := t.TempDir()
	arguments := []string{"--data", filepath.Join(folder, "data"), "--genesis", s.Genesis}
	for _, peer := range s.Peers {
		arguments = append(arguments, "--peer", peer)
	}
	return &tool{folder, arguments}
}

type outcome struct {
	code           int
	stdout, stderr string
}

func (o *tool) command(arguments ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	var stdout, stderr bytes.Buffer
	command := exec.Command(program, append(arguments, o.arguments...)...)
	command.Dir, command.Stdout, command.Stderr = o.folder, &stdout, &stderr
	return command, &stdout, &stderr
}

func (o *tool) run(t *testing.T, arguments ...string) outcome {
	t.Helper()
	command, stdout, stderr := o.command(arguments...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, command, stdout, stderr)
}

func wait(t *testing.T, command *exec.Cmd, stdout, stderr *bytes.Buffer) outcome {
	t.Helper()
	timer := time.AfterFunc(limit, func() { command.Process.Kill() })
	defer timer.Stop()
	err := command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestAFileIsFetchedAndSaid(t *testing.T) {
	scene := open(t)
	tool, known := scene.tool(t), scene.artifact("small")
	got := tool.run(t, known.What, known.File)
	expected := fmt.Sprintf("%s  97.7 KiB  verified, entry %d\n", known.File, known.Index)
	if got != (outcome{0, expected, ""}) {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(read(t, filepath.Join(tool.folder, known.File)), read(t, known.Path)) {
		t.Error("other bytes")
	}

	again := tool.run(t, known.PURL, known.File)
	if again.code != exitOther || !strings.Contains(again.stderr, "--force") {
		t.Errorf("%+v", again)
	}
	// The network is known by now; the file comes from the store.
	tool.arguments = tool.arguments[:2]
	if got := tool.run(t, "-q", "--force", "--peer", scene.Peers[0], "sha256:"+known.SHA256); got != (outcome{0, "", ""}) {
		t.Errorf("%+v", got)
	}
}

func TestSeveralNamesShareANodeAndProofsHold(t *testing.T) {
	scene := open(t)
	tool := scene.tool(t)
	arguments := []string{"--json", "--waybill", "-o", "out/"}
	for _, known := range scene.Artifacts {
		arguments = append(arguments, known.What, known.File)
	}
	got := tool.run(t, append(arguments, "--link")...)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if got.code != 0 || got.stderr != "" || len(lines) != len(scene.Artifacts) {
		t.Fatalf("%+v", got)
	}
	policy := kogge.TrustPolicy(read(t, scene.Policy))
	for at, known := range scene.Artifacts {
		var it result
		if err := json.Unmarshal([]byte(lines[at]), &it); err != nil {
			t.Fatal(err)
		}
		if it.What != known.What || it.SHA256 != known.SHA256 || it.Size != known.Size || *it.LogIndex != known.Index || it.Peers != known.Size {
			t.Errorf("%+v", it)
		}
		entry, err := kogge.VerifyFile(filepath.Join(tool.folder, it.Path), read(t, filepath.Join(tool.folder, it.Waybill)), policy)
		if err != nil || entry.Index != known.Index {
			t.Errorf("%+v, %v", entry, err)
		}
	}
}

func TestAPackageIsAllItsFiles(t *testing.T) {
	scene := open(t)
	tool, known := scene.tool(t), scene.artifact("tiny")
	if got := tool.run(t, known.What); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"lib-1.jar", "lib-1.pom"} {
		if len(read(t, filepath.Join(tool.folder, name))) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	if got := tool.run(t, "-o", "-", known.What); got.code != exitOther || !strings.Contains(got.stderr, "FILE") {
		t.Errorf("%+v", got)
	}
	if got := tool.run(t, "-o", "-", known.What, known.File); got.code != 0 || got.stdout != string(read(t, known.Path)) {
		t.Errorf("%d, %d bytes, %s", got.code, len(got.stdout), got.stderr)
	}
}

func TestWhatIsNamedTwiceIsFetchedOnce(t *testing.T) {
	scene := open(t)
	known := scene.artifact("tiny")
	for name, output := range map[string][]string{known.File: nil, "one.jar": {"-o", "one.jar"}} {
		tool := scene.tool(t)
		arguments := append(output, known.What, known.File, known.What, known.File, "sha256:"+known.SHA256)
		got := tool.run(t, arguments...)
		if got.code != 0 || got.stderr != "" || strings.Count(got.stdout, "\n") != 1 {
			t.Errorf("%s: %+v", name, got)
		}
		if !bytes.Equal(read(t, filepath.Join(tool.folder, name)), read(t, known.Path)) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

func TestStandardOutputIsThatOfTheCaller(t *testing.T) {
	scene := open(t)
	known := scene.artifact("tiny")
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	var stdout bytes.Buffer
	arguments := append(scene.tool(t).arguments, "-o", "-", known.What, known.File)
	if code := start(arguments, &stdout, stderr); code != 0 || !bytes.Equal(stdout.Bytes(), read(t, known.Path)) {
		t.Errorf("%d, %d bytes, %s", code, stdout.Len(), read(t, stderr.Name()))
	}
}

func TestExitCodesTellWhatKindOfFailure(t *testing.T) {
	scene := open(t)
	known := scene.artifact("tiny")
	for name, it := range map[string]struct {
		arguments []string
		code      int
		says      string
	}{
		"nothing":        {nil, exitUsage, "what to fetch"},
		"unknown flag":   {[]string{"--colour", "x"}, exitUsage, "colour"},
		"no jobs":        {[]string{"--jobs", "0", "x"}, exitUsage, "jobs"},
		"no place":       {[]string{"-o", "-", "--json", "x"}, exitUsage, "-o -"},
		"absent":         {[]string{scene.Absent}, exitNotFound, scene.Absent},
		"absent file":    {[]string{known.What, "x.jar"}, exitNotFound, known.What},
		"a bad name":     {[]string{"../x"}, exitOther, "../x"},
		"one is absent":  {[]string{known.What, known.File, scene.Absent}, exitNotFound, scene.Absent},
		"no time":        {[]string{"--timeout", "1ms", known.What}, exitNetwork, "ended"},
		"no genesis":     {[]string{"--genesis", "none.json", known.What}, exitOther, "none.json"},
		"a bad peer":     {[]string{"--peer", "bob", known.What}, exitOther, "peers"},
		"a bad waybill":  {[]string{"-o", "-", "--waybill", known.What}, exitUsage, "waybill"},
		"a bad duration": {[]string{"--timeout", "soon", known.What}, exitUsage, "soon"},
	} {
		t.Run(name, func(t *testing.T) {
			// Later flags hold.
			tool := scene.tool(t)
			arguments := append(tool.arguments, it.arguments...)
			tool.arguments = nil
			got := tool.run(t, arguments...)
			if got.code != it.code || !strings.Contains(got.stderr, it.says) || strings.Contains(got.stderr, "\x1b") {
				t.Errorf("%+v", got)
			}
		})
	}
	help := scene.tool(t).run(t, "--help")
	if help.code != 0 || !strings.Contains(help.stderr, "WHAT [FILE]") {
		t.Errorf("%+v", help)
	}
	none := &tool{folder: t.TempDir()}
	got := none.run(t, "--data", filepath.Join(none.folder, "data"), known.What)
	if got.code != exitNotFound || !strings.Contains(got.stderr, "--genesis") {
		t.Errorf("%+v", got)
	}
}

// sign closes its channel when the text is in what is written.
type sign struct {
	of    *regexp.Regexp
	text  []byte
	found chan struct{}
	was   bool
}

func (s *sign) Write(text []byte) (int, error) {
	s.text = append(s.text, text...)
	if !s.was && s.of.Match(s.text) {
		s.was = true
		close(s.found)
	}
	return len(text), nil
}

func TestCtrlCEndsTheProgramAndLeavesNoFile(t *testing.T) {
	scene := open(t)
	tool, known := scene.tool(t), scene.artifact("large")
	command, stdout, stderr := tool.command("--rate", "1000", "-v", "-o", "file", known.What, known.File)
	begun := &sign{of: regexp.MustCompile(`0 of 1 files, [1-9]`), found: make(chan struct{})}
	command.Stderr = io.MultiWriter(stderr, begun)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// It takes a minute at this rate: the signal comes in the middle of it.
	select {
	case <-begun.found:
	case <-time.After(limit):
		command.Process.Kill()
		t.Errorf("it did not begin: %s", wait(t, command, stdout, stderr).stderr)
		return
	}
	start := time.Now()
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	got := wait(t, command, stdout, stderr)
	if got.code != exitInterrupted || 10*time.Second < time.Since(start) {
		t.Errorf("%d after %v: %s", got.code, time.Since(start), got.stderr)
	}
	left, err := filepath.Glob(filepath.Join(tool.folder, "*file*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// The directory is free again.
	if got := tool.run(t, "-o", "file", known.What, known.File); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestArgumentsAreNamesAndFiles(t *testing.T) {
	for _, it := range []struct {
		arguments string
		expected  string
	}{
		{"alpine", "alpine="},
		{"g:a:1 a-1.jar", "g:a:1=a-1.jar"},
		{"g:a:1 h:b:2", "g:a:1= h:b:2="},
		{"g:a:1 a-1.jar g:a:1 a-1.pom alpine:3", "g:a:1=a-1.jar g:a:1=a-1.pom alpine:3="},
		{"g:a:1 a-1.jar more", "g:a:1=a-1.jar more="},
	} {
		var got []string
		for _, pair := range pairs(strings.Fields(it.arguments)) {
			got = append(got, pair.What+"="+pair.File)
		}
		if strings.Join(got, " ") != it.expected {
			t.Errorf("%s: %v", it.arguments, got)
		}
	}
}

func TestNoNameInTheLogLeadsOutOfTheFolder(t *testing.T) {
	for file, expected := range map[string]string{
		"a.jar": "out/a.jar", "../../etc/x": "out/x", "/etc/passwd": "out/passwd", "..": "out/12", "": "out/12", "a/b": "out/b",
	} {
		results := []result{{File: file, SHA256: "12"}}
		if results, err := place(results, "out/"); err != nil || results[0].Path != expected {
			t.Errorf("%q: %+v, %v", file, results, err)
		}
	}
	two := []result{{File: "a/x", SHA256: "1"}, {File: "b/x", SHA256: "2"}}
	if _, err := place(two, ""); err == nil {
		t.Errorf("%+v", two)
	}
}

func TestProgressTellsRateAndWhatIsLeft(t *testing.T) {
	screen := &screen{done: map[int]int64{}}
	start := time.Unix(0, 0)
	screen.say("opening")
	if line := screen.line(start); line != "opening…" {
		t.Error(line)
	}
	screen.expect(2, 30<<20)
	for second, expected := range []string{
		"0 of 2 files, 0 B of 30.0 MiB",
		"0 of 2 files, 5.0 MiB of 30.0 MiB, 5.0 MiB/s, 5s left",
		"0 of 2 files, 10.0 MiB of 30.0 MiB, 5.0 MiB/s, 4s left",
	} {
		screen.tell(0, int64(second)*5<<20)
		if line := screen.line(start.Add(time.Duration(second) * time.Second)); line != expected {
			t.Errorf("%s, expected %s", line, expected)
		}
	}
	for bytes, expected := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 40: "5.0 TiB", 5 << 50: "5120.0 TiB"} {
		if got := size(bytes); got != expected {
			t.Errorf("%d: %s", bytes, got)
		}
	}
}
