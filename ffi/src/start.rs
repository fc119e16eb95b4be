//! What all trios have in common: completions come in, handles go out.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::failure::Failure;
use crate::handle;
use crate::host::Host;
use crate::input::{out, structure};
use crate::object::Object;
use crate::op::{Notice, Op, Outcome, UserData};
use crate::queue::{Place, Queue};
use crate::types::{kogge_buffer, kogge_completion, kogge_op};

/// How the host wants to hear of an end.
#[derive(Default)]
pub(crate) struct Completion {
    pub(crate) notice: Notice,
    pub(crate) answer: Answer,
}

/// Where to say whether an operation ended at once, if the host wants that.
#[derive(Clone, Copy, Default)]
pub(crate) struct Answer(Option<NonNull<u8>>);

impl Answer {
    fn is_wanted(self) -> bool {
        self.0.is_some()
    }

    /// # Safety
    ///
    /// The call that got the completion has not returned.
    pub(crate) unsafe fn say(self, has_ended: bool) {
        if let Some(target) = self.0 {
            // SAFETY: who gave it promised that it is writable until then.
            unsafe { target.write(u8::from(has_ended)) };
        }
    }
}

/// # Safety
///
/// `completion` is NULL or as its type says.
pub(crate) unsafe fn read(completion: *const kogge_completion) -> Result<Completion, Failure> {
    if completion.is_null() {
        return Ok(Completion::default());
    }
    // SAFETY: as the caller promises.
    let given = unsafe { structure("completion", completion)? };
    let place = match given.queue.is_null() {
        true => None,
        false => {
            let queue = handle::get::<Arc<Queue>>(given.queue.cast())?;
            Some(Place::reserve(queue, given.tag)?)
        }
    };
    let notice = Notice {
        done_fn: given.done_fn,
        user_data: UserData(given.user_data),
        drop_fn: given.drop_fn,
        place,
    };
    Ok(Completion {
        notice,
        answer: Answer(NonNull::new(given.ended_out)),
    })
}

/// Starts the work that `begin` makes in a node, and writes the operation to `op_out`. `begin` is
/// called only if the start succeeds.
///
/// # Safety
///
/// `completion` is NULL or as its type says; `op_out` is NULL or writable.
pub(crate) unsafe fn start<F>(
    host: &Arc<Host>,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    begin: impl FnOnce(&Arc<Op>) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
{
    let target = out("op_out", op_out)?;
    // SAFETY: as the caller promises.
    let Completion { notice, answer } = unsafe { read(completion)? };
    // SAFETY: this call has not returned.
    unsafe { answer.say(false) };
    let (handle, has_ended) = host.run(notice, Arc::default(), answer.is_wanted(), begin)?;
    // SAFETY: checked not to be NULL; as the caller promises. The operation may have ended by now,
    // and its callback may be running: it is given the same handle.
    unsafe { target.write(handle.cast()) };
    if has_ended {
        // SAFETY: nobody was told, so that all is as it was when the call began.
        unsafe { answer.say(true) };
    }
    Ok(())
}

/// The result of an ended operation, if `choose` wants it.
pub(crate) fn finish<T>(
    op: *mut kogge_op,
    choose: impl FnOnce(Outcome) -> Result<T, Outcome>,
) -> Result<T, Failure> {
    handle::get::<Arc<Op>>(op.cast())?.finish(choose)
}

/// Gives `bytes` to the host as a buffer.
///
/// # Safety
///
/// `target` is writable.
pub(crate) unsafe fn give_buffer(
    target: *mut *mut kogge_buffer,
    bytes: Arc<Vec<u8>>,
) -> Result<(), Failure> {
    let handle: *mut c_void = handle::put(Object::Buffer(bytes))?;
    // SAFETY: as the caller promises.
    unsafe { target.write(handle.cast()) };
    Ok(())
}

/// The bytes of an operation whose result is a buffer.
pub(crate) fn buffer(outcome: Outcome) -> Result<Arc<Vec<u8>>, Outcome> {
    match outcome {
        Outcome::Buffer(it) => Ok(it),
        other => Err(other),
    }
}
