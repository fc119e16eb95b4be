//! `kogge verify`: checks a file against a waybill without any network.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kogge::proto::chain::light::Light;
use kogge::proto::log::policy::POLICY_BYTES_MAX;
use kogge::proto::log::waybill::WAYBILL_BYTES_MAX;
use kogge::proto::log::{Policy, Trust, VerifiedEntry, Waybill};
use kogge::{Blake3, Digest, Entry};
use serde_json::json;

use crate::Session;
use crate::commands::network;
use crate::failure::{During, Failure};
use crate::files;
use crate::output::Color;
use crate::text::{Fields, bytes};

/// Bytes that are hashed at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What to check, and whom to believe.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("trust").required(true).args(["policy", "genesis"])))]
pub(crate) struct Args {
    /// The file
    file: PathBuf,
    /// Its waybill, from `kogge waybill`
    #[arg(long, short)]
    waybill: PathBuf,
    /// Believe the keys in this policy (c2sp.org/tlog-policy), as from a node's /policy
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Believe the first authorized nodes of the network with this genesis, and whom they admitted
    #[arg(long)]
    genesis: Option<PathBuf>,
}

/// Checks. The exit code is 1 if the file does not verify.
///
/// # Errors
///
/// [`Failure`] if it does not verify, saying why, or if something cannot be read.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let limit = WAYBILL_BYTES_MAX as u64;
    let text = files::read(&args.waybill, limit)?;
    let waybill = Waybill::parse(&text).map_err(|it| refused(&args.waybill, it))?;
    let (digest, size) = hash(&args.file)?;
    let artifact = Digest::from(digest);
    let verified = match (&args.policy, &args.genesis) {
        (Some(path), _) => {
            let text = files::read(path, POLICY_BYTES_MAX as u64)?;
            let text = String::from_utf8(text).during(format!("the policy {}", path.display()))?;
            let policy = Policy::parse(&text).map_err(|it| refused(path, it))?;
            waybill.verify(Trust::Policy(&policy), Some(&artifact))
        }
        (None, Some(path)) => {
            let light = Light::from_genesis(&network::read_genesis(path)?);
            waybill.verify(Trust::Members(&light), Some(&artifact))
        }
        (None, None) => {
            return Err(Failure::input(
                "give --policy or --genesis: whom to believe",
            ));
        }
    };
    let verified = verified.map_err(|it| refused(&args.file, it))?;
    show(session, &args.file, &verified, &artifact, size)?;
    Ok(ExitCode::SUCCESS)
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        "not-verified",
        format!("{} is not verified: {why}", path.display()),
    )
}

/// The BLAKE3 digest of a file, and its length.
fn hash(path: &Path) -> Result<(Blake3, u64), Failure> {
    let what = || format!("cannot read {}", path.display());
    let mut file = File::open(path).during(what())?;
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).during(what())?;
        if count == 0 {
            return Ok((Blake3(*hasher.finalize().as_bytes()), size));
        }
        hasher.update(chunk.get(..count).unwrap_or_default());
        size += count as u64;
    }
}

fn show(
    session: &Session,
    path: &Path,
    verified: &VerifiedEntry,
    digest: &Digest,
    size: u64,
) -> Result<(), Failure> {
    let head = verified.head();
    let (purl, file) = match verified.entry() {
        Entry::AddArtifact(it) => (it.purl.as_str(), it.file.as_str()),
        _ => ("", ""),
    };
    let signers = head.signed_by();
    let mut fields = Fields::default();
    fields.add("package", purl);
    fields.add("file", format!("{file}, {}", bytes(size)));
    fields.add("digest", digest.to_string());
    fields.add(
        "entry",
        format!(
            "{} of {} leaves of {}",
            verified.index(),
            head.size(),
            head.checkpoint().origin
        ),
    );
    fields.add("cosigned", signers.join(", "));
    let good = session.output.paint(Color::Green, "verified");
    let value = json!({
        "verified": true, "path": path, "package": purl, "file": file, "digest": digest.to_string(),
        "size": size, "index": verified.index(), "log_size": head.size(), "origin": head.checkpoint().origin,
        "cosigned_by": signers,
    });
    session.output.show(
        &value,
        format!("{}: {good}\n{}", path.display(), fields.render()),
    )
}
