//! Virtual time for the machines.

use std::time::Duration;

use kogge_node::base::Time;

/// Wake-ups in a row that may leave a machine with work for the same moment.
const WAKES_MAX: u32 = 8;

/// A machine with the model that watches it.
pub(crate) trait Clocked {
    /// The time at which the machine is.
    fn now(&mut self) -> &mut Time;

    /// When the machine wants to be woken.
    fn next_deadline(&self) -> Option<Time>;

    /// Wakes the machine at its time, and checks what it wants.
    fn expire(&mut self);

    /// Time passes, with every wake-up that the machine asks for.
    fn wait(&mut self, time: Duration) {
        let until = *self.now() + time;
        let mut wakes = 0;
        while let Some(wake) = self.next_deadline().filter(|it| *it <= until) {
            let now = wake.max(*self.now());
            *self.now() = now;
            self.expire();
            let is_due = self.next_deadline().is_some_and(|it| it <= now);
            wakes = if is_due { wakes + 1 } else { 0 };
            assert!(wakes < WAKES_MAX, "a wake-up changes nothing");
        }
        *self.now() = until.max(*self.now());
    }
}
