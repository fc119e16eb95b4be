package kogge

// #include "shim.h"
import "C"

import (
	"log/slog"
	"time"
)

// Network chooses which network a node is in.
type Network int32

const (
	// NetworkStoredOrSolo is the network that the data directory has joined; if it has joined none, a new
	// one in which this node alone decides.
	NetworkStoredOrSolo Network = C.KOGGE_NETWORK_STORED_OR_SOLO
	// NetworkStored is the network that the data directory has joined.
	NetworkStored Network = C.KOGGE_NETWORK_STORED
	// NetworkGenesis is the network of Config.Genesis, which the data directory joins if it has joined
	// none.
	NetworkGenesis Network = C.KOGGE_NETWORK_GENESIS
)

// Config says how a node is to be opened. All fields but DataDir may be left out.
//
// The zero Config differs from that of the kogge program: such a node listens nowhere, so that no port
// is taken (it still shares over the connections it makes), and reads no environment.
type Config struct {
	// DataDir is where everything durable lives. No other process may use it at the same time.
	DataDir string
	// Network chooses the network; Genesis alone means NetworkGenesis.
	Network Network
	// Genesis is the document that begins a network, as `kogge network show --json` gives it.
	Genesis []byte
	// Peers are addresses to keep connections to, such as /ip4/192.0.2.1/tcp/7878/p2p/12D3….
	Peers []string
	// BootstrapURLs are status documents that list peers, such as http://192.0.2.1:8080/status.
	BootstrapURLs []string
	// Listen has addresses for peers, such as /ip4/0.0.0.0/tcp/7878. Empty: the node does not listen.
	Listen []string
	// Limits is what the node may use.
	Limits Limits
	// TOML sets everything else, in the form of the configuration file. The fields above come on
	// top: they replace values and add to lists.
	TOML string
	// Logger gets the log of the node, from a goroutine that no call waits for but Close: lines that
	// it is too slow for are lost, and counted in the attribute `lost` of the next. Close waits for
	// the lines that are on their way, so that none comes later; if Logger may block, close with
	// CloseContext. It must not close the node itself. Nil: no log.
	Logger *slog.Logger
}

// Limits is what a node may use. Zero means the default of the library.
type Limits struct {
	// DiskMB is space for artifacts. Unit: mebibytes. Default: 10 GiB.
	DiskMB uint64
	// UploadKBPerS limits payload to peers. Unit: kibibytes per second. Default: none.
	UploadKBPerS uint64
	// DownloadKBPerS limits payload from peers. Unit: kibibytes per second. Default: none.
	DownloadKBPerS uint64
	// Connections is the most connections in total. Default: 256.
	Connections uint32
	// FetchTimeout is how long a fetch may go on without progress; whole seconds. Default: 30 s.
	FetchTimeout time.Duration
	// NoShare gives no artifacts to peers.
	NoShare bool
}

// build makes the library's configuration, which the caller frees, and gives the reading end of the
// log if there is a Logger.
func (c *Config) build() (handle, *logReader, error) {
	made := C.kg_config_new()
	if err := check(made); err != nil {
		return 0, nil, err
	}
	reader, err := c.apply(made.handle)
	if err != nil {
		C.kg_config_free(made.handle)
		return 0, nil, err
	}
	return made.handle, reader, nil
}

func (c *Config) apply(config handle) (*logReader, error) {
	network := c.Network
	if len(c.Genesis) != 0 {
		if network == NetworkStored {
			return nil, invalid("Config has a Genesis, but the Network is NetworkStored")
		}
		network = NetworkGenesis
	}
	var err error
	change := func(how C.kg_change, key string, values ...string) {
		for _, value := range values {
			if err == nil {
				err = check(C.kg_config_text(config, how, chars(key), size(key), chars(value), size(value)))
			}
		}
	}
	if c.TOML != "" {
		change(C.KG_MERGE, "", c.TOML)
	}
	if c.DataDir != "" {
		change(C.KG_SET, "data_dir", c.DataDir)
	}
	change(C.KG_ADD, "peers", c.Peers...)
	change(C.KG_ADD, "bootstrap_urls", c.BootstrapURLs...)
	change(C.KG_ADD, "listen", c.Listen...)
	if err == nil {
		err = c.Limits.apply(config)
	}
	if err == nil {
		err = check(C.kg_config_network(config, C.int32_t(network), octets(c.Genesis), size(c.Genesis)))
	}
	if err != nil || c.Logger == nil {
		return nil, err
	}
	return readLog(config, c.Logger)
}

func (l *Limits) apply(config handle) error {
	if l.FetchTimeout < 0 || l.FetchTimeout%time.Second != 0 {
		return invalid("Limits.FetchTimeout is %v; want whole seconds", l.FetchTimeout)
	}
	for _, it := range []struct {
		key   string
		value uint64
	}{
		{"limits.disk_mb", l.DiskMB},
		{"limits.upload_kb_per_s", l.UploadKBPerS},
		{"limits.download_kb_per_s", l.DownloadKBPerS},
		{"limits.connections", uint64(l.Connections)},
		{"limits.fetch_timeout_s", uint64(l.FetchTimeout / time.Second)},
	} {
		if it.value == 0 {
			continue
		}
		if err := check(C.kg_config_number(config, chars(it.key), size(it.key), C.uint64_t(it.value))); err != nil {
			return err
		}
	}
	if key := "limits.share"; l.NoShare {
		return check(C.kg_config_flag(config, chars(key), size(key), 0))
	}
	return nil
}
