//! The boundary of every native method: no panic crosses it, every failure becomes a
//! `KoggeException`.

use std::any::Any;
use std::ptr::{null_mut, without_provenance_mut};

use jni::Env;
use jni::errors::{Error, ErrorPolicy};
use jni::objects::{JByteArray, JLongArray, JThrowable, JValue};
use jni::sys::jlong;
use jni::{jni_sig, jni_str};
use kogge_abi::{
    kogge_buffer, kogge_buffer_free, kogge_buffer_get_bytes, kogge_bytes, kogge_completion,
    kogge_error, kogge_error_free, kogge_error_get_cause, kogge_error_get_detail_json,
    kogge_error_get_message, kogge_error_get_os_code, kogge_op, kogge_op_free, kogge_queue,
    kogge_status, kogge_status_get_name, kogge_str,
};

/// Most causes of an error that Java is told.
const CAUSES_MAX: usize = 16;

/// Defines a native method of `dev.kogge.Native`.
macro_rules! native {
    ($name:ident($env:ident $(, $arg:ident: $type:ty)*) -> $result:ty $body:block) => {
        #[unsafe(no_mangle)]
        pub(crate) extern "system" fn $name<'l>(
            mut env: jni::EnvUnowned<'l>,
            _class: jni::objects::JClass<'l>
            $(, $arg: $type)*
        ) -> $result {
            let body = |$env: &mut jni::Env<'l>| -> Result<$result, crate::call::Failure> { $body };
            env.with_env(body).resolve::<crate::call::Thrown>()
        }
    };
}
pub(crate) use native;

/// Why a native method did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The JVM refused; an exception may be pending.
    Java(Error),
    /// The library refused.
    Kogge {
        status: i32,
        message: String,
        os_code: i32,
        detail: String,
        causes: String,
    },
}

impl Failure {
    pub(crate) fn new(status: kogge_status, message: &str) -> Self {
        Self::Kogge {
            status: status as i32,
            message: message.to_owned(),
            os_code: 0,
            detail: "{}".to_owned(),
            causes: String::new(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Java(error)
    }
}

/// What becomes of a [`Failure`]: an exception of the class `dev.kogge.KoggeException`.
pub(crate) struct Thrown;

impl<T: Default> ErrorPolicy<T, Failure> for Thrown {
    type Captures<'a: 'b, 'b> = ();

    fn on_error<'a: 'b, 'b>(env: &mut Env<'a>, _: &mut (), failure: Failure) -> Result<T, Error> {
        throw(env, failure)?;
        Ok(T::default())
    }

    fn on_panic<'a: 'b, 'b>(
        env: &mut Env<'a>,
        _: &mut (),
        payload: Box<dyn Any + Send>,
    ) -> Result<T, Error> {
        let text = payload.downcast_ref::<&str>().unwrap_or(&"a bug");
        throw(env, Failure::new(kogge_status::Panic, text))?;
        Ok(T::default())
    }
}

fn throw(env: &mut Env<'_>, failure: Failure) -> Result<(), Error> {
    if env.exception_check() {
        return Ok(());
    }
    let failure = match failure {
        Failure::Java(error) => {
            Failure::new(kogge_status::InvalidArgument, &format!("the JVM: {error}"))
        }
        told @ Failure::Kogge { .. } => told,
    };
    let Failure::Kogge {
        status,
        message,
        os_code,
        detail,
        causes,
    } = failure
    else {
        return Ok(());
    };
    let (message, detail) = (env.new_string(message)?, env.new_string(detail)?);
    let causes = env.new_string(causes)?;
    let thrown = env.new_object(
        jni_str!("dev/kogge/KoggeException"),
        jni_sig!("(ILjava/lang/String;ILjava/lang/String;Ljava/lang/String;)V"),
        &[
            JValue::Int(status),
            JValue::Object(&message),
            JValue::Int(os_code),
            JValue::Object(&detail),
            JValue::Object(&causes),
        ],
    )?;
    let thrown = env.cast_local::<JThrowable<'_>>(thrown)?;
    match env.throw(thrown) {
        // It is pending: that is what was wanted.
        Ok(()) | Err(Error::JavaException) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a function of the ABI came to. Frees the error object.
pub(crate) fn check(status: kogge_status, error: *mut kogge_error) -> Result<(), Failure> {
    if status == kogge_status::Ok {
        return Ok(());
    }
    if error.is_null() {
        return Err(Failure::new(
            status,
            &owned(kogge_status_get_name(status as i32)),
        ));
    }
    let causes = (0..CAUSES_MAX)
        .map(|depth| owned(kogge_error_get_cause(error, depth)))
        .take_while(|it| !it.is_empty());
    let failure = Failure::Kogge {
        status: status as i32,
        message: owned(kogge_error_get_message(error)),
        os_code: kogge_error_get_os_code(error),
        detail: owned(kogge_error_get_detail_json(error)),
        causes: causes.collect::<Vec<_>>().join("\n"),
    };
    kogge_error_free(error);
    Err(failure)
}

/// The bytes of a view that is valid now.
pub(crate) fn bytes_of(view: kogge_bytes) -> Vec<u8> {
    if view.ptr.is_null() || view.len == 0 {
        return Vec::new();
    }
    // SAFETY: a view that the library gave, of an object that is alive.
    unsafe { std::slice::from_raw_parts(view.ptr, view.len) }.to_vec()
}

/// The text of a view that is valid now.
pub(crate) fn owned(view: kogge_str) -> String {
    let view = kogge_bytes {
        ptr: view.ptr.cast(),
        len: view.len,
    };
    String::from_utf8_lossy(&bytes_of(view)).into_owned()
}

/// A handle that Java gave: a number in a pointer's clothes, never read through.
pub(crate) fn handle<T>(number: jlong) -> *mut T {
    // Where numbers are shorter than `long` a number that does not fit is no handle.
    without_provenance_mut(usize::try_from(number.cast_unsigned()).unwrap_or(0))
}

/// A handle for Java.
pub(crate) fn number<T>(handle: *mut T) -> jlong {
    (handle.addr() as u64).cast_signed()
}

/// The bytes of an array, whose view is valid as long as this.
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    pub(crate) fn of(env: &Env<'_>, array: &JByteArray<'_>) -> Result<Self, Failure> {
        Ok(Self(env.convert_byte_array(array)?))
    }

    pub(crate) fn text(&self) -> kogge_str {
        kogge_str {
            ptr: self.0.as_ptr().cast(),
            len: self.0.len(),
        }
    }

    pub(crate) fn view(&self) -> kogge_bytes {
        kogge_bytes {
            ptr: self.0.as_ptr(),
            len: self.0.len(),
        }
    }
}

/// Starts an operation. `end` has the queue, the tag, and room to say whether it ended at once: 1, and
/// then the queue does not tell of it.
pub(crate) fn start<'l>(
    env: &Env<'l>,
    end: &JLongArray<'l>,
    begin: impl FnOnce(
        *const kogge_completion,
        *mut *mut kogge_op,
        *mut *mut kogge_error,
    ) -> kogge_status,
) -> Result<jlong, Failure> {
    let mut numbers = [0; 3];
    end.get_region(env, 0, &mut numbers)?;
    let [queue, tag, _] = numbers;
    let (mut has_ended, mut op, mut error) = (0, null_mut(), null_mut());
    let told = kogge_completion {
        struct_size: size_of::<kogge_completion>(),
        done_fn: None,
        user_data: null_mut(),
        drop_fn: None,
        queue: handle::<kogge_queue>(queue),
        tag: tag.cast_unsigned(),
        ended_out: &raw mut has_ended,
    };
    let status = begin(&raw const told, &raw mut op, &raw mut error);
    check(status, error)?;
    if let Err(error) = end.set_region(env, 2, &[jlong::from(has_ended)]) {
        kogge_op_free(op);
        return Err(error.into());
    }
    Ok(number(op))
}

/// A Java array with the bytes of a buffer, which is freed.
pub(crate) fn take<'l>(
    env: &mut Env<'l>,
    buffer: *mut kogge_buffer,
) -> Result<JByteArray<'l>, Failure> {
    let view = kogge_buffer_get_bytes(buffer);
    let bytes = if view.ptr.is_null() {
        &[]
    } else {
        // SAFETY: the view is valid until the buffer is freed, below.
        unsafe { std::slice::from_raw_parts(view.ptr, view.len) }
    };
    let array = env.byte_array_from_slice(bytes);
    kogge_buffer_free(buffer);
    Ok(array?)
}
