//! Writing the log to files.

use std::path::{Path, PathBuf};

use kogge::proto::log::note::Note;
use kogge::proto::log::{Checkpoint, TileKind, TilePath};
use serde_json::{Value, json};

use crate::Session;
use crate::client::Client;
use crate::commands::log::find;
use crate::failure::{During, Failure};
use crate::files::{self, Draft};
use crate::progress::Progress;
use crate::text::count;

/// Rows of one page.
const PAGE_ROWS: u64 = 1_000;

/// Hashes in a full tile, and entries in a full bundle.
const TILE_WIDTH: u64 = 256;

/// Most levels of tiles: 8 bits of the index each.
const LEVELS: u8 = 8;

/// Where to.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Lines of JSON, one for each entry, oldest first; `-` is standard output
    #[arg(long, value_name = "FILE", required_unless_present = "tiles")]
    jsonl: Option<PathBuf>,
    /// A folder with checkpoint, tiles and entry bundles, as a static log serves them
    #[arg(long, value_name = "FOLDER")]
    tiles: Option<PathBuf>,
}

/// Exports.
///
/// # Errors
///
/// [`Failure`] if something cannot be read or written.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let client = session.daemon()?;
    let (mut done, mut told) = (json!({}), String::new());
    if let Some(folder) = &args.tiles {
        let (size, files) = tiles(session, &client, folder).await?;
        done["tiles"] = json!({"path": folder, "size": size, "files": files});
        told += &format!(
            "wrote a log of {size} leaves to {} ({})\n",
            folder.display(),
            count(files, "file")
        );
    }
    if let Some(path) = &args.jsonl {
        let rows = jsonl(session, path).await?;
        // The lines themselves are the result then.
        if path == Path::new("-") {
            return Ok(());
        }
        done["jsonl"] = json!({"path": path, "rows": rows});
        told += &format!("wrote {rows} entries to {}\n", path.display());
    }
    session.output.show(&done, told)
}

async fn jsonl(session: &Session, path: &Path) -> Result<u64, Failure> {
    let mut draft = match path == Path::new("-") {
        true => None,
        false => Some(Draft::create(path)?),
    };
    let (mut rows, mut after) = (0, None);
    let mut progress: Option<Progress> = None;
    loop {
        let mut params = vec![
            ("order", "oldest".to_owned()),
            ("limit", PAGE_ROWS.to_string()),
        ];
        params.extend(after.take().map(|it| ("after", it)));
        let (value, page) = find::ask(session, &params).await?;
        let lines = value["rows"].as_array().into_iter().flatten();
        let lines: String = lines.map(|it| format!("{it}\n")).collect();
        match &mut draft {
            Some(draft) => draft.write(lines.as_bytes())?,
            None => {
                use std::io::Write;
                std::io::stdout()
                    .write_all(lines.as_bytes())
                    .during("cannot write the result")?;
            }
        }
        rows += page.rows.len() as u64;
        let progress =
            progress.get_or_insert_with(|| Progress::steps(session.output, "entries", page.size));
        progress.set(rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if let Some(draft) = draft {
        draft.keep()?;
    }
    Ok(rows)
}

/// Writes every tile of the log as of its checkpoint; returns its size and the number of files.
async fn tiles(session: &Session, client: &Client, folder: &Path) -> Result<(u64, u64), Failure> {
    let note = client.text("/checkpoint").await?;
    let parsed = Note::parse(&note).during("the checkpoint")?;
    let head: Checkpoint = parsed.text().parse().during("the checkpoint")?;
    let paths = paths(head.size);
    let total = paths.len() as u64;
    let mut progress = Progress::steps(session.output, "tiles", total);
    for (at, path) in paths.iter().enumerate() {
        let bytes = client.bytes(&format!("/{path}")).await?;
        files::write(&folder.join(path.to_string()), &bytes)?;
        progress.set(at as u64 + 1);
    }
    let policy = client.text("/policy").await?;
    let genesis: Value = client.get("/genesis").await?;
    files::write(&folder.join("policy"), policy.as_bytes())?;
    files::write(
        &folder.join("genesis.json"),
        format!("{genesis:#}\n").as_bytes(),
    )?;
    // Last: a checkpoint promises that its tiles are there.
    files::write(&folder.join("checkpoint"), note.as_bytes())?;
    Ok((head.size, total + 3))
}

/// The tiles of a log of `size` leaves: full ones, and the partial one at the end of each level.
fn paths(size: u64) -> Vec<TilePath> {
    let mut paths = Vec::new();
    let mut add = |kind, hashes: u64| {
        let (full, rest) = (hashes / TILE_WIDTH, hashes % TILE_WIDTH);
        let mut push = |index, width: u64| {
            let width = u16::try_from(width).unwrap_or_default();
            paths.extend(TilePath::new(kind, index, width));
        };
        (0..full).for_each(|index| push(index, TILE_WIDTH));
        if 0 < rest {
            push(full, rest);
        }
    };
    add(TileKind::Entries, size);
    for level in 0..LEVELS {
        add(TileKind::Hashes(level), size >> (8 * u32::from(level)));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_full_tiles_and_partial_ends() {
        let names = |size| {
            paths(size)
                .iter()
                .map(TilePath::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(0), Vec::<String>::new());
        assert_eq!(names(1), ["tile/entries/000.p/1", "tile/0/000.p/1"]);
        let expected = [
            "tile/entries/000",
            "tile/entries/001.p/44",
            "tile/0/000",
            "tile/0/001.p/44",
            "tile/1/000.p/1",
        ];
        assert_eq!(names(300), expected);
    }
}
