// Crosscheck reads what kogge wrote with the verifiers of other people: the note and tlog packages
// of the Go checksum database, and the C2SP formats of transparency.dev.
//
// Its one argument is a folder, written by core/tests/go_tlog.rs:
//
//	origin       the log's origin
//	logs         vkeys of the log (0x01), one a line
//	cosigners    vkeys of the cosigners (0x04), one a line
//	portable     checkpoint: one log line, 3 of 4 cosignatures
//	full         checkpoint: 4 log lines, 4 cosignatures
//	torsion      note whose signature stands only if the cofactor is multiplied in
//	torsion.vkey its key
//	policy       trust policy
//	leaf         an entry
//	waybill      its proof
//	consistency  old size, old root, proof; one a line
//	tile/        the tiles of the log
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: crosscheck <folder>")
		os.Exit(2)
	}
	written := folder(os.Args[1])
	for _, check := range []struct {
		name string
		run  func(folder) error
	}{
		{"notes", checkNotes},
		{"torsion", checkTorsion},
		{"policy", checkPolicy},
		{"waybill", checkWaybill},
		{"consistency", checkConsistency},
		{"tiles", checkTiles},
		{"bundles", checkBundles},
	} {
		if err := check.run(written); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", check.name, err)
			os.Exit(1)
		}
		fmt.Printf("%s: ok\n", check.name)
	}
}

// Folder is where the files are.
type folder string

func (f folder) read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(string(f), filepath.FromSlash(name)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return data
}

func (f folder) lines(name string) []string {
	return strings.Split(strings.TrimSuffix(string(f.read(name)), "\n"), "\n")
}

func (f folder) logs() ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, line := range f.lines("logs") {
		key, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (f folder) cosigners() ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, line := range f.lines("cosigners") {
		key, err := fnote.NewVerifierForCosignatureV1(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Head opens a checkpoint with all keys and returns its tree and the number of known signatures.
func (f folder) head(text []byte) (tlog.Tree, int, error) {
	logs, err := f.logs()
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	cosigners, err := f.cosigners()
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	opened, err := note.Open(text, note.VerifierList(append(logs, cosigners...)...))
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != string(f.read("origin")) {
		return tlog.Tree{}, 0, fmt.Errorf("not a checkpoint of the log: %q", opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, len(opened.Sigs), err
}

func checkNotes(f folder) error {
	for name, want := range map[string]int{"portable": 1 + 3, "full": 4 + 4} {
		text := f.read(name)
		if _, got, err := f.head(text); err != nil || got != want {
			return fmt.Errorf("%s: %d signatures, want %d: %v", name, got, want, err)
		}
		// Another size under the same signatures.
		forged := bytes.Replace(text, []byte("\n6"), []byte("\n7"), 1)
		var invalid *note.InvalidSignatureError
		if _, _, err := f.head(forged); !errors.As(err, &invalid) {
			return fmt.Errorf("%s: a forged size gives %v", name, err)
		}
	}
	return nil
}

func checkTorsion(f folder) error {
	key, err := note.NewVerifier(f.lines("torsion.vkey")[0])
	if err != nil {
		return err
	}
	var invalid *note.InvalidSignatureError
	if _, err := note.Open(f.read("torsion"), note.VerifierList(key)); !errors.As(err, &invalid) {
		return fmt.Errorf("want a refusal, not %v", err)
	}
	return nil
}

func checkPolicy(f folder) error {
	policy, err := witness.ParsePolicy(f.read("policy"))
	if err != nil {
		return err
	}
	for _, name := range []string{"portable", "full"} {
		if !policy.Satisfied(f.read(name)) {
			return fmt.Errorf("%s does not satisfy the policy", name)
		}
	}
	text := f.read("portable")
	last := bytes.LastIndexByte(text[:len(text)-1], '\n')
	if policy.Satisfied(text[:last+1]) {
		return errors.New("two of four satisfy the policy")
	}
	return nil
}

func checkWaybill(f folder) error {
	var waybill proof.TLogProof
	if err := waybill.Unmarshal(f.read("waybill")); err != nil {
		return err
	}
	if !bytes.Equal(waybill.Marshal(), f.read("waybill")) {
		return errors.New("the waybill does not survive")
	}
	tree, _, err := f.head(waybill.Checkpoint)
	if err != nil {
		return err
	}
	path := pathOf(waybill)
	leaf, index := f.read("leaf"), int64(waybill.Index)
	if !bytes.Contains(waybill.ExtraData, leaf) {
		return errors.New("the extra line does not hold the leaf")
	}
	if err := tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(leaf)); err != nil {
		return err
	}
	leaf[0] ^= 1
	if tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(leaf)) == nil {
		return errors.New("another leaf passes")
	}
	return nil
}

func pathOf(waybill proof.TLogProof) tlog.RecordProof {
	var path tlog.RecordProof
	for _, hash := range waybill.Hashes {
		path = append(path, hash)
	}
	return path
}

func (f folder) consistency() (int64, tlog.Hash, tlog.TreeProof, error) {
	lines := f.lines("consistency")
	size, err := strconv.ParseInt(lines[0], 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, nil, err
	}
	var hashes tlog.TreeProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, tlog.Hash{}, nil, err
		}
		hashes = append(hashes, hash)
	}
	return size, hashes[0], hashes[1:], nil
}

func checkConsistency(f folder) error {
	tree, _, err := f.head(f.read("portable"))
	if err != nil {
		return err
	}
	size, root, hashes, err := f.consistency()
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(hashes, tree.N, tree.Hash, size, root); err != nil {
		return err
	}
	root[0] ^= 1
	if tlog.CheckTree(hashes, tree.N, tree.Hash, size, root) == nil {
		return errors.New("another old root passes")
	}
	return nil
}

// Tiles reads tiles for the tlog package, which writes the height of tiles into their paths.
type tiles struct {
	folder folder
	spoil  bool
}

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		data := t.folder.read(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if t.spoil && tile.L == 0 {
			data[0] ^= 1
		}
		all = append(all, data)
	}
	return all, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// CheckTiles lets the tlog package make the proofs from our tiles, and compares them with ours.
func checkTiles(f folder) error {
	tree, _, err := f.head(f.read("portable"))
	if err != nil {
		return err
	}
	var waybill proof.TLogProof
	if err := waybill.Unmarshal(f.read("waybill")); err != nil {
		return err
	}
	path, err := tlog.ProveRecord(tree.N, int64(waybill.Index), tlog.TileHashReader(tree, tiles{folder: f}))
	if err != nil {
		return err
	}
	if !slices.Equal(path, pathOf(waybill)) {
		return fmt.Errorf("the path from the tiles is %v, ours %v", path, pathOf(waybill))
	}
	size, _, hashes, err := f.consistency()
	if err != nil {
		return err
	}
	fromTiles, err := tlog.ProveTree(tree.N, size, tlog.TileHashReader(tree, tiles{folder: f}))
	if err != nil {
		return err
	}
	if !slices.Equal(fromTiles, hashes) {
		return fmt.Errorf("the consistency proof from the tiles is %v, ours %v", fromTiles, hashes)
	}
	spoiled := tlog.TileHashReader(tree, tiles{folder: f, spoil: true})
	if _, err := tlog.ProveRecord(tree.N, int64(waybill.Index), spoiled); err == nil {
		return errors.New("a spoiled tile passes")
	}
	return nil
}

// CheckBundles hashes every entry and compares it with the tiles of level 0.
func checkBundles(f folder) error {
	tree, _, err := f.head(f.read("portable"))
	if err != nil {
		return err
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, index := range indexes {
			hashes = append(hashes, stored[index])
		}
		return hashes, nil
	})
	for start := int64(0); start < tree.N; start += 256 {
		width := min(256, tree.N-start)
		tile := tlog.Tile{H: 8, L: 0, N: start / 256, W: int(width)}
		name := strings.TrimPrefix(tile.Path(), "tile/8/0/")
		bundle, hashes := f.read("tile/entries/"+name), f.read("tile/0/"+name)
		for at := range width {
			if len(bundle) < 2 {
				return fmt.Errorf("bundle %s is cut off", name)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2:end]
			bundle = bundle[end:]
			want := base64.StdEncoding.EncodeToString(hashes[32*at : 32*at+32])
			if got := tlog.RecordHash(entry).String(); got != want {
				return fmt.Errorf("entry %d has the hash %s, in its tile %s", start+at, got, want)
			}
			added, err := tlog.StoredHashes(start+at, entry, reader)
			if err != nil {
				return err
			}
			stored = append(stored, added...)
		}
		if len(bundle) != 0 {
			return fmt.Errorf("bundle %s is too long", name)
		}
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("the entries give the root %v, want %v", root, tree.Hash)
	}
	return err
}
