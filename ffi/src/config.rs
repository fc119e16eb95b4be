//! How a node is to be opened.
//!
//! The keys are those of the configuration file (`kogge config show`), with dots between tables:
//! one list of settings, one check, one set of messages.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kogge::node::config::locate;
use kogge::{Config, Genesis, Network};
use toml::{Table, Value};

use crate::failure::Failure;
use crate::guard::{call, value};
use crate::handle;
use crate::host::Settings;
use crate::input::{bytes, out, text};
use crate::lines::Sink;
use crate::object::Object;
use crate::op::{Release, UserData};
use crate::status::kogge_status;
use crate::types::{
    kogge_bytes, kogge_config, kogge_drop_fn, kogge_error, kogge_log_fn, kogge_str,
};
use crate::version::{KOGGE_ABI_VERSION, kogge_abi_compatible};

/// The network that the data directory has joined; if it has joined none, a new one in which this
/// node alone decides. The default.
pub const KOGGE_NETWORK_STORED_OR_SOLO: i32 = 0;

/// The network that the data directory has joined.
pub const KOGGE_NETWORK_STORED: i32 = 1;

/// The network with a given genesis, which the data directory joins if it has joined none.
pub const KOGGE_NETWORK_GENESIS: i32 = 2;

/// Most parts of a dotted key.
const KEY_PARTS_MAX: usize = 8;

/// A configuration that is being written.
pub(crate) struct Draft(Mutex<Settled>);

#[derive(Clone)]
struct Settled {
    table: Table,
    network: Network,
    sink: Option<Arc<Sink>>,
}

impl Draft {
    /// A configuration for a node inside a host: it listens nowhere and reads no environment unless
    /// told.
    fn embedded() -> Self {
        let mut table = Table::new();
        table.insert("listen".into(), Value::Array(Vec::new()));
        table.insert("environment".into(), Value::Boolean(false));
        Self(Mutex::new(Settled {
            table,
            network: Network::StoredOrSolo,
            sink: None,
        }))
    }

    /// The checked configuration.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the key.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let settled = self.settled().clone();
        let Some(data_dir) = settled.table.get("data_dir").and_then(Value::as_str) else {
            return Err(Failure::argument("the setting `data_dir` is missing"));
        };
        let data_dir = data_dir.to_owned();
        let text = toml::to_string(&settled.table)
            .map_err(|it| Failure::of(kogge_status::InvalidArgument, &it))?;
        // The name stands in messages; a relative data directory is meant from here.
        let config = Config::from_toml(&text, Path::new("of this node"), &data_dir)?;
        Ok(Settings {
            config,
            network: settled.network,
            sink: settled.sink,
        })
    }

    fn settled(&self) -> MutexGuard<'_, Settled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value of a dotted key.
    fn change(
        &self,
        key: &str,
        change: impl FnOnce(&mut Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut settled = self.settled();
        let parts: Vec<&str> = key.split('.').collect();
        let (Some((last, tables)), true) = (parts.split_last(), parts.len() <= KEY_PARTS_MAX)
        else {
            return Err(Failure::argument(format!("`{key}` is not a key")));
        };
        if parts.iter().any(|it| it.is_empty()) {
            return Err(Failure::argument(format!("`{key}` is not a key")));
        }
        let mut table = &mut settled.table;
        for part in tables {
            let inner = table
                .entry(*part)
                .or_insert_with(|| Value::Table(Table::new()));
            table = inner
                .as_table_mut()
                .ok_or_else(|| Failure::argument(format!("`{part}` in `{key}` is a value")))?;
        }
        let mut value = table.get(*last).cloned().unwrap_or(Value::Boolean(false));
        change(&mut value)?;
        table.insert((*last).to_owned(), value);
        Ok(())
    }
}

/// Sets a key to a value.
///
/// # Safety
///
/// As for the functions that call it.
unsafe fn set(
    config: *mut kogge_config,
    key: kogge_str,
    error: *mut *mut kogge_error,
    value: impl FnOnce() -> Result<Value, Failure>,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        // SAFETY: as the caller promises.
        let key = unsafe { text("key", key)? };
        let value = value()?;
        draft.change(&key, |it| {
            *it = value;
            Ok(())
        })
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// A new configuration, with the defaults for a node inside a host: it listens nowhere (so that no
/// port is taken; it still shares over the connections it makes) and reads no environment. Pass
/// `KOGGE_ABI_VERSION`. Set `data_dir` at least. Free it with `kogge_config_free`, before or after
/// nodes were opened with it.
///
/// # Safety
///
/// `config_out` and `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_new(
    header_abi: u32,
    config_out: *mut *mut kogge_config,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let target = out("config_out", config_out)?;
        if !kogge_abi_compatible(header_abi) {
            let message = format!(
                "the program was compiled for version {}.{} of the interface, the library has {}.{}",
                header_abi >> 16,
                header_abi & 0xffff,
                KOGGE_ABI_VERSION >> 16,
                KOGGE_ABI_VERSION & 0xffff,
            );
            return Err(Failure::new(kogge_status::AbiMismatch, message));
        }
        let handle = handle::put(Object::Config(Arc::new(Draft::embedded())))?;
        // SAFETY: checked not to be NULL; as the caller promises.
        unsafe { target.write(handle.cast()) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Sets a key to a text, such as `data_dir`. Unknown keys and values that do not fit are told when a
/// node is opened.
///
/// # Safety
///
/// `key` and `value` are as their types say; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_set_str(
    config: *mut kogge_config,
    key: kogge_str,
    value: kogge_str,
    error: *mut *mut kogge_error,
) -> kogge_status {
    // SAFETY: as the caller promises.
    unsafe {
        set(config, key, error, || {
            Ok(Value::String(text("value", value)?))
        })
    }
}

/// Sets a key to a number, such as `limits.disk_mb`.
///
/// # Safety
///
/// `key` is as its type says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_set_u64(
    config: *mut kogge_config,
    key: kogge_str,
    value: u64,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let number = || {
        let number = i64::try_from(value);
        number
            .map(Value::Integer)
            .map_err(|_| Failure::argument(format!("{value} is too large")))
    };
    // SAFETY: as the caller promises.
    unsafe { set(config, key, error, number) }
}

/// Sets a key to yes (1) or no (0), such as `limits.share`.
///
/// # Safety
///
/// `key` is as its type says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_set_bool(
    config: *mut kogge_config,
    key: kogge_str,
    value: u8,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let flag = || match value {
        0 => Ok(Value::Boolean(false)),
        1 => Ok(Value::Boolean(true)),
        other => Err(Failure::argument(format!("{other} is neither 0 nor 1"))),
    };
    // SAFETY: as the caller promises.
    unsafe { set(config, key, error, flag) }
}

/// Adds a text to a list, such as `peers` or `bootstrap_urls`.
///
/// # Safety
///
/// `key` and `value` are as their types say; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_add_str(
    config: *mut kogge_config,
    key: kogge_str,
    value: kogge_str,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        // SAFETY: as the caller promises.
        let (key, value) = unsafe { (text("key", key)?, text("value", value)?) };
        draft.change(&key, |list| {
            match list {
                Value::Array(list) => list.push(Value::String(value)),
                Value::Boolean(false) => *list = Value::Array(vec![Value::String(value)]),
                _ => return Err(Failure::argument(format!("`{key}` is not a list"))),
            }
            Ok(())
        })
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Sets all keys that a TOML text sets, in the form of the configuration file.
///
/// # Safety
///
/// `toml` is as its type says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_merge_toml(
    config: *mut kogge_config,
    toml: kogge_str,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        // SAFETY: as the caller promises.
        let text = unsafe { text("toml", toml)? };
        let table: Table = text
            .parse()
            .map_err(|it| Failure::argument(locate(&text, &it)))?;
        merge(&mut draft.settled().table, table);
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Chooses the network: one of `KOGGE_NETWORK_*`. `genesis` is needed for `KOGGE_NETWORK_GENESIS` only:
/// the document as `kogge network show --json` or a node's `/genesis` gives it, or the stored file.
///
/// # Safety
///
/// `genesis` is as its type says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_set_network(
    config: *mut kogge_config,
    network: i32,
    genesis: kogge_bytes,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        let network = match network {
            KOGGE_NETWORK_STORED_OR_SOLO => Network::StoredOrSolo,
            KOGGE_NETWORK_STORED => Network::Stored,
            KOGGE_NETWORK_GENESIS => {
                // SAFETY: as the caller promises.
                let bytes = unsafe { bytes("genesis", genesis)? };
                let genesis = Genesis::parse(&bytes)
                    .map_err(|it| Failure::of(kogge_status::InvalidArgument, &it))?;
                Network::Genesis(Box::new(genesis))
            }
            other => return Err(Failure::argument(format!("{other} is no KOGGE_NETWORK_*"))),
        };
        draft.settled().network = network;
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Sends the log of each node that is opened with this configuration to `log_fn`, up to `max_level`:
/// 1 errors, 2 warnings, 3 info, 4 debug, 5 trace; 0 is nothing. `drop_fn` runs after the last line
/// of the last node, on its callback thread, or when the configuration is freed or gets another
/// function, on the thread that does that, whichever is later.
///
/// # Safety
///
/// The functions and `user_data` may be used from another thread until `drop_fn` was called; `error`
/// is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_config_set_log(
    config: *mut kogge_config,
    max_level: i32,
    log_fn: kogge_log_fn,
    user_data: *mut std::ffi::c_void,
    drop_fn: kogge_drop_fn,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let draft = handle::get::<Arc<Draft>>(config.cast())?;
        if !(0..=5).contains(&max_level) {
            return Err(Failure::argument(format!(
                "the level {max_level} is not in 0..=5"
            )));
        }
        let sink = Sink {
            log_fn,
            release: Release {
                user_data: UserData(user_data),
                drop_fn,
            },
            max_level: if log_fn.is_some() { max_level } else { 0 },
        };
        let before = draft.settled().sink.replace(Arc::new(sink));
        drop(before);
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Frees a configuration. Does nothing with NULL and stale handles.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_config_free(config: *mut kogge_config) {
    value((), || drop(handle::take::<Arc<Draft>>(config.cast())));
}
