//! Container images made offline with `umoci` from files of Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::run::{Failure, command, run};

/// Files for the large layer: big programs of packages that the tests need anyway.
const LARGE_FILES: [&str; 5] = [
    "/usr/bin/podman",
    "/usr/sbin/dockerd",
    "/usr/bin/containerd",
    "/usr/bin/skopeo",
    "/usr/bin/docker-registry",
];

/// An OCI layout in `cache` with two multi-platform images, made if it is not there:
/// `small` (three layers, amd64 and arm64) and `large` (one more layer of more than 50 MB).
///
/// # Errors
///
/// [`Failure`] naming the tool that is missing or failed.
pub fn demo_layout(cache: &Path) -> Result<PathBuf, Failure> {
    let layout = cache.join("demo-images");
    if layout.join("complete").exists() {
        return Ok(layout);
    }
    let _ = std::fs::remove_dir_all(&layout);
    std::fs::create_dir_all(cache)?;
    umoci(&["init", "--layout"], &layout)?;
    for platform in ["amd64", "arm64"] {
        make_image(&layout, "small", platform, &[])?;
        make_image(
            &layout,
            "large",
            platform,
            if platform == "amd64" {
                &LARGE_FILES
            } else {
                &[]
            },
        )?;
    }
    join_platforms(&layout, &["small", "large"])?;
    std::fs::write(layout.join("complete"), "")?;
    Ok(layout)
}

fn make_image(layout: &Path, name: &str, platform: &str, large: &[&str]) -> Result<(), Failure> {
    let image = format!("{}:{name}-{platform}", layout.display());
    umoci(&["new", "--image", &image], Path::new(""))?;
    umoci(
        &[
            "config",
            "--image",
            &image,
            "--os",
            "linux",
            "--architecture",
            platform,
            "--config.cmd",
            "/bin/busybox",
            "--config.cmd",
            "echo",
            "--config.cmd",
            "ahoy from the demo image",
        ],
        Path::new(""),
    )?;
    add_layer(&image, layout, |rootfs| {
        copy(rootfs, "/bin/busybox", "bin/busybox")
    })?;
    add_layer(&image, layout, |rootfs| {
        copy(
            rootfs,
            "/usr/share/common-licenses/GPL-3",
            "usr/share/licenses/GPL-3",
        )?;
        copy(
            rootfs,
            "/usr/share/common-licenses/Apache-2.0",
            "usr/share/licenses/Apache-2.0",
        )
    })?;
    add_layer(&image, layout, |rootfs| {
        std::fs::create_dir_all(rootfs.join("etc"))?;
        std::fs::write(rootfs.join("etc/demo"), format!("{name} for {platform}\n"))?;
        Ok(())
    })?;
    if !large.is_empty() {
        add_layer(&image, layout, |rootfs| {
            large
                .iter()
                .try_for_each(|it| copy(rootfs, it, it.trim_start_matches('/')))
        })?;
    }
    Ok(())
}

fn add_layer(
    image: &str,
    layout: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bundle = layout.with_extension("bundle");
    let _ = std::fs::remove_dir_all(&bundle);
    umoci(&["unpack", "--rootless", "--image", image], &bundle)?;
    fill(&bundle.join("rootfs"))?;
    umoci(&["repack", "--image", image], &bundle)?;
    std::fs::remove_dir_all(&bundle)?;
    Ok(())
}

fn copy(rootfs: &Path, from: &str, to: &str) -> Result<(), Failure> {
    let target = rootfs.join(to);
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, &target)
        .map(drop)
        .map_err(|error| Failure(format!("{from}: {error}; is its Debian package installed?")))
}

fn umoci(args: &[&str], folder: &Path) -> Result<(), Failure> {
    let mut umoci: Command = command("umoci", args);
    if folder != Path::new("") {
        umoci.arg(folder);
    }
    run(&mut umoci).map(drop)
}

/// Adds to the layout's index, for each name, an OCI index over its platforms.
fn join_platforms(layout: &Path, names: &[&str]) -> Result<(), Failure> {
    let path = layout.join("index.json");
    let unreadable = |error: serde_json::Error| Failure(format!("{}: {error}", path.display()));
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path)?).map_err(unreadable)?;
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let mut joined = Vec::new();
    for name in names {
        let of_platform = |platform: &str| {
            let tag = format!("{name}-{platform}");
            let found = entries
                .iter()
                .find(|it| it["annotations"]["org.opencontainers.image.ref.name"] == *tag)?;
            Some(json!({
                "mediaType": found["mediaType"], "digest": found["digest"], "size": found["size"],
                "platform": { "architecture": platform, "os": "linux" },
            }))
        };
        let manifests: Vec<_> = ["amd64", "arm64"]
            .into_iter()
            .filter_map(of_platform)
            .collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let body = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        let bytes = serde_json::to_vec(&body).map_err(unreadable)?;
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect();
        std::fs::write(layout.join("blobs/sha256").join(&digest), &bytes)?;
        joined.push(json!({
            "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }));
    }
    index["manifests"] = joined.into();
    std::fs::write(&path, serde_json::to_vec(&index).map_err(unreadable)?)?;
    Ok(())
}
