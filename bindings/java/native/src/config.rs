//! Configurations, and what the library says about itself.

use std::ptr::null_mut;

use jni::objects::JByteArray;
use jni::sys::{jboolean, jint, jlong};
use kogge_abi::{
    kogge_abi_version, kogge_config_add_str, kogge_config_free, kogge_config_merge_toml,
    kogge_config_new, kogge_config_set_bool, kogge_config_set_network, kogge_config_set_str,
    kogge_config_set_u64, kogge_debug_live_handles, kogge_status_is_retryable, kogge_version,
};

use crate::call::{Bytes, check, handle, native, number, owned};

native!(Java_dev_kogge_Native_abiVersion(_env) -> jint {
    Ok(kogge_abi_version().cast_signed())
});

native!(Java_dev_kogge_Native_version(env) -> JByteArray<'l> {
    Ok(env.byte_array_from_slice(owned(kogge_version()).as_bytes())?)
});

native!(Java_dev_kogge_Native_liveHandles(_env) -> jlong {
    Ok((kogge_debug_live_handles() as u64).cast_signed())
});

native!(Java_dev_kogge_Native_isRetryable(_env, status: jint) -> jboolean {
    Ok(kogge_status_is_retryable(status))
});

native!(Java_dev_kogge_Native_configNew(_env, abi: jint) -> jlong {
    let (mut config, mut error) = (null_mut(), null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_config_new(abi.cast_unsigned(), &raw mut config, &raw mut error) };
    check(status, error)?;
    Ok(number(config))
});

native!(Java_dev_kogge_Native_configSetText(
    env, config: jlong, key: JByteArray<'l>, value: JByteArray<'l>
) -> () {
    let (key, value, mut error) = (Bytes::of(env, &key)?, Bytes::of(env, &value)?, null_mut());
    // SAFETY: the texts live until the call returns; the error is writable.
    let status = unsafe {
        kogge_config_set_str(handle(config), key.text(), value.text(), &raw mut error)
    };
    check(status, error)
});

native!(Java_dev_kogge_Native_configSetNumber(
    env, config: jlong, key: JByteArray<'l>, value: jlong
) -> () {
    let (key, mut error) = (Bytes::of(env, &key)?, null_mut());
    // SAFETY: the text lives until the call returns; the error is writable.
    let status = unsafe {
        kogge_config_set_u64(handle(config), key.text(), value.cast_unsigned(), &raw mut error)
    };
    check(status, error)
});

native!(Java_dev_kogge_Native_configSetFlag(
    env, config: jlong, key: JByteArray<'l>, value: jboolean
) -> () {
    let (key, mut error) = (Bytes::of(env, &key)?, null_mut());
    // SAFETY: the text lives until the call returns; the error is writable.
    let status = unsafe {
        kogge_config_set_bool(handle(config), key.text(), u8::from(value), &raw mut error)
    };
    check(status, error)
});

native!(Java_dev_kogge_Native_configAdd(
    env, config: jlong, key: JByteArray<'l>, value: JByteArray<'l>
) -> () {
    let (key, value, mut error) = (Bytes::of(env, &key)?, Bytes::of(env, &value)?, null_mut());
    // SAFETY: the texts live until the call returns; the error is writable.
    let status = unsafe {
        kogge_config_add_str(handle(config), key.text(), value.text(), &raw mut error)
    };
    check(status, error)
});

native!(Java_dev_kogge_Native_configMerge(env, config: jlong, toml: JByteArray<'l>) -> () {
    let (toml, mut error) = (Bytes::of(env, &toml)?, null_mut());
    // SAFETY: the text lives until the call returns; the error is writable.
    let status = unsafe { kogge_config_merge_toml(handle(config), toml.text(), &raw mut error) };
    check(status, error)
});

native!(Java_dev_kogge_Native_configNetwork(
    env, config: jlong, network: jint, genesis: JByteArray<'l>
) -> () {
    let (genesis, mut error) = (Bytes::of(env, &genesis)?, null_mut());
    // SAFETY: the bytes live until the call returns; the error is writable.
    let status = unsafe {
        kogge_config_set_network(handle(config), network, genesis.view(), &raw mut error)
    };
    check(status, error)
});

native!(Java_dev_kogge_Native_configFree(_env, config: jlong) -> () {
    kogge_config_free(handle(config));
    Ok(())
});
