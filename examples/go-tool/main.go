// Kogge-get fetches artifacts of a kogge network, verified against its log, with a node that lives in
// this process for as long as it takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"kogge.dev/go/kogge"
)

const usage = `kogge-get fetches artifacts of a kogge network, verified against its log.

usage: kogge-get [flags] WHAT [FILE] [WHAT [FILE]]…

WHAT is a digest (sha256:…), an image (alpine:3.20), group:artifact:version, or a package URL. FILE is one
file of the package; without it, all of them are fetched. After the first WHAT, an argument without a
colon is a FILE.

flags:
`

// Exit codes. 130 is what shells give to what Ctrl-C ended.
const (
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnverified  = 4
	exitNetwork     = 5
	exitInterrupted = 130
)

// settings is what the command line says.
type settings struct {
	names     []string
	output    string
	dataDir   string
	genesis   string
	peers     list
	bootstrap list
	timeout   time.Duration
	rate      uint64
	jobs      int
	json      bool
	quiet     bool
	verbose   bool
	force     bool
	link      bool
	waybill   bool
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return fmt.Sprint(*l) }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

func main() { os.Exit(start(os.Args[1:], os.Stdout, os.Stderr)) }

func start(arguments []string, stdout io.Writer, stderr *os.File) int {
	settings, err := parse(arguments, stderr)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintln(stderr, "kogge-get:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)
	limited, cancel := ctx, context.CancelFunc(func() {})
	if settings.timeout != 0 {
		limited, cancel = context.WithTimeout(ctx, settings.timeout)
	}
	defer cancel()
	results, err := run(limited, settings, stdout, stderr)
	code := report(settings, results, err, stdout, stderr)
	if code != 0 && ctx.Err() != nil {
		return exitInterrupted
	}
	return code
}

func parse(arguments []string, stderr io.Writer) (settings, error) {
	settings := settings{dataDir: "kogge-get"}
	if cache, err := os.UserCacheDir(); err == nil {
		settings.dataDir = filepath.Join(cache, "kogge-get")
	}
	flags := flag.NewFlagSet("kogge-get", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&settings.output, "o", "", "`path` of the file, or of a folder for several; - is standard output")
	flags.StringVar(&settings.dataDir, "data", settings.dataDir, "`folder` where the node keeps what it fetched")
	flags.StringVar(&settings.genesis, "genesis", "", "`file` that begins the network; needed once for a folder")
	flags.Var(&settings.peers, "peer", "`address` of a peer, such as /ip4/192.0.2.1/tcp/7878; may be repeated")
	flags.Var(&settings.bootstrap, "bootstrap", "`URL` of a status document that lists peers; may be repeated")
	flags.DurationVar(&settings.timeout, "timeout", 0, "give up after this `duration`, such as 90s")
	flags.Uint64Var(&settings.rate, "rate", 0, "take at most this `number` of KiB a second")
	flags.IntVar(&settings.jobs, "jobs", 4, "`number` of artifacts that are fetched at once")
	flags.BoolVar(&settings.json, "json", false, "print one JSON object for each artifact")
	flags.BoolVar(&settings.quiet, "q", false, "print nothing but errors")
	flags.BoolVar(&settings.verbose, "v", false, "print the log of the node")
	flags.BoolVar(&settings.force, "force", false, "replace files that are there")
	flags.BoolVar(&settings.link, "link", false, "make hard links to the node's store where possible: do not write to them")
	flags.BoolVar(&settings.waybill, "waybill", false, "write the proof of each file beside it, as FILE.waybill")
	for {
		// Flags may stand behind names.
		if err := flags.Parse(arguments); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprint(stderr, usage)
				flags.SetOutput(stderr)
				flags.PrintDefaults()
			}
			return settings, err
		}
		if flags.NArg() == 0 {
			break
		}
		settings.names = append(settings.names, flags.Arg(0))
		arguments = flags.Args()[1:]
	}
	switch {
	case len(settings.names) == 0:
		return settings, errors.New("say what to fetch; --help tells more")
	case settings.jobs < 1:
		return settings, errors.New("--jobs is at least 1")
	case settings.output == "-" && (settings.json || settings.waybill):
		return settings, errors.New("with -o -, there is no place for --json or --waybill")
	}
	return settings, nil
}

// run opens the node, fetches everything, and closes it. An error is about all of it.
func run(ctx context.Context, settings settings, stdout io.Writer, stderr *os.File) (results []result, err error) {
	config := kogge.Config{
		DataDir: settings.dataDir, Network: kogge.NetworkStored,
		Peers: settings.peers, BootstrapURLs: settings.bootstrap,
		Limits: kogge.Limits{DownloadKBPerS: settings.rate},
	}
	if settings.verbose {
		config.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if settings.genesis != "" {
		if config.Genesis, err = os.ReadFile(settings.genesis); err != nil {
			return nil, err
		}
		config.Network = kogge.NetworkGenesis
	}
	if err := os.MkdirAll(settings.dataDir, 0o700); err != nil {
		return nil, err
	}
	screen := newScreen(settings, stderr)
	defer screen.close()
	screen.say("opening the node")
	node, err := kogge.Open(ctx, config)
	if err != nil {
		if settings.genesis == "" && errors.Is(err, kogge.ErrNotFound) {
			err = fmt.Errorf("%w (or give --genesis)", err)
		}
		return nil, err
	}
	defer func() {
		if closing := node.Close(); err == nil {
			err = closing
		}
	}()
	screen.say("looking for the network")
	if err := node.Live(ctx); err != nil {
		return nil, noNetwork(err)
	}
	return fetchAll(ctx, node, settings, stdout, screen)
}

// noNetwork says what a deadline means while the network is looked for.
func noNetwork(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no peer answers (see --peer and --bootstrap): %w", err)
	}
	return err
}
