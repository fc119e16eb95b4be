package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"kogge.dev/go/kogge"
)

const (
	// drawInterval is how often the line on a terminal changes, plainInterval how often there is a new
	// one elsewhere.
	drawInterval  = 100 * time.Millisecond
	plainInterval = 5 * time.Second
	// rateWindow is what the rate is measured over.
	rateWindow = 3 * time.Second
)

// screen shows progress: one line that changes on a terminal, a line now and then elsewhere.
type screen struct {
	out                 *os.File
	isQuiet, isTerminal bool
	end, ended          chan struct{}

	mutex    sync.Mutex
	doing    string
	count    int
	finished int
	total    int64
	done     map[int]int64
	samples  []sample
}

type sample struct {
	at   time.Time
	done int64
}

func newScreen(settings settings, out *os.File) *screen {
	this := &screen{
		out: out, isQuiet: settings.quiet, isTerminal: isTerminal(out),
		end: make(chan struct{}), ended: make(chan struct{}), done: map[int]int64{},
	}
	go this.run()
	return this
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

func (s *screen) close() {
	close(s.end)
	<-s.ended
}

func (s *screen) run() {
	defer close(s.ended)
	interval := plainInterval
	if s.isTerminal {
		interval = drawInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.draw()
		case <-s.end:
			if s.isTerminal && !s.isQuiet {
				fmt.Fprint(s.out, "\r\x1b[K")
			}
			return
		}
	}
}

func (s *screen) draw() {
	if s.isQuiet {
		return
	}
	if line := s.line(time.Now()); s.isTerminal {
		fmt.Fprint(s.out, "\r\x1b[K"+line)
	} else {
		fmt.Fprintln(s.out, line)
	}
}

// line is what there is to say now.
func (s *screen) line(now time.Time) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.count == 0 {
		return s.doing + "…"
	}
	var done int64
	for _, it := range s.done {
		done += it
	}
	s.samples = append(s.samples, sample{now, done})
	for len(s.samples) > 2 && rateWindow < now.Sub(s.samples[0].at) {
		s.samples = s.samples[1:]
	}
	text := fmt.Sprintf("%d of %d files, %s of %s", s.finished, s.count, size(done), size(s.total))
	first := s.samples[0]
	rate := float64(done-first.done) / max(now.Sub(first.at).Seconds(), 0.001)
	if rate >= 1 {
		left := time.Duration(float64(s.total-done) / rate * float64(time.Second))
		text += fmt.Sprintf(", %s/s, %s left", size(int64(rate)), left.Round(time.Second))
	}
	return text
}

func (s *screen) say(doing string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.doing = doing
}

func (s *screen) expect(count int, total int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.count, s.total = count, total
}

func (s *screen) tell(at int, done int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.done[at] = done
}

func (s *screen) finish(at int, it *result) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.finished++
	if it.err == nil {
		s.done[at] = it.Size
	}
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/(1<<10), 0
	for value >= 1<<10 && unit < 3 {
		value, unit = value/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[unit])
}

// report prints the results, and gives the exit code: that of the first failure.
func report(settings settings, results []result, err error, stdout io.Writer, stderr *os.File) int {
	code := 0
	fail := func(what string, err error) {
		fmt.Fprintln(stderr, mark(stderr, "31", "kogge-get:"), what+err.Error())
		if code == 0 {
			code = codeOf(err)
		}
	}
	for _, it := range results {
		if settings.json {
			// Nothing in a result cannot be written as JSON.
			line, _ := json.Marshal(it)
			fmt.Fprintf(stdout, "%s\n", line)
		}
		switch {
		case it.err != nil:
			fail(it.What+": ", it.err)
		case !settings.json && !settings.quiet && it.Path != "-":
			verified := fmt.Sprintf("verified, entry %d", *it.LogIndex)
			if out, isFile := stdout.(*os.File); isFile {
				verified = mark(out, "32", verified)
			}
			fmt.Fprintf(stdout, "%s  %s  %s\n", it.Path, size(it.Size), verified)
		}
	}
	if err != nil {
		fail("", err)
	}
	return code
}

// mark colours text on a terminal, unless NO_COLOR says otherwise.
func mark(out *os.File, colour, text string) string {
	if !isTerminal(out) || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[m"
}

func codeOf(err error) int {
	switch {
	case errors.Is(err, kogge.ErrNotFound):
		return exitNotFound
	case errors.Is(err, kogge.ErrUnverified):
		return exitUnverified
	case errors.Is(err, kogge.ErrNetwork), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kogge.ErrTimedOut):
		return exitNetwork
	default:
		return exitOther
	}
}
