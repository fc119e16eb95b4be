package dev.kogge;

/** How {@link KoggeNode#fetchTo} makes a file. */
public enum PlaceOption {
    /** Replace the file that is there; otherwise that is {@link KoggeStatus#EXISTS}. */
    REPLACE(1),
    /** Share the bytes with the store where the file system can do that (copy on write). */
    REFLINK(2),
    /**
     * Be another name of the store's own file where that is on the same file system. Who writes to
     * such a file damages the store.
     */
    HARD_LINK(4);

    final int flag;

    PlaceOption(int flag) {
        this.flag = flag;
    }
}
