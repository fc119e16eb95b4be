package dev.kogge;

import java.io.IOException;
import java.lang.System.Logger.Level;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * How a node is to be opened. The keys are those of the configuration file, with dots between tables
 * (such as {@code limits.disk_mb}). Wrong keys and values are told when the node is opened. By default
 * a node listens nowhere and reads no environment. One thread at a time.
 */
public final class KoggeConfig {
    private interface Setting {
        void apply(long config) throws KoggeException;
    }

    private final List<Setting> settings = new ArrayList<>();

    private KoggeConfig() {}

    /** A node whose data lies in {@code folder}, which is made if it is missing. */
    public static KoggeConfig in(Path folder) {
        return new KoggeConfig().set("data_dir", folder.toAbsolutePath().toString());
    }

    /** Sets a key to a text. */
    public KoggeConfig set(String key, String value) {
        byte[] name = Native.utf8(key);
        byte[] text = Native.utf8(value);
        return with(config -> Native.configSetText(config, name, text));
    }

    /** Sets a key to a number. */
    public KoggeConfig set(String key, long value) {
        if (value < 0) {
            throw new IllegalArgumentException(key + " is negative");
        }
        byte[] name = Native.utf8(key);
        return with(config -> Native.configSetNumber(config, name, value));
    }

    /** Sets a key to yes or no. */
    public KoggeConfig set(String key, boolean value) {
        byte[] name = Native.utf8(key);
        return with(config -> Native.configSetFlag(config, name, value));
    }

    /** Adds a text to a list. */
    public KoggeConfig add(String key, String value) {
        byte[] name = Native.utf8(key);
        byte[] text = Native.utf8(value);
        return with(config -> Native.configAdd(config, name, text));
    }

    /** Adds the address of a node to connect to. */
    public KoggeConfig peer(String address) {
        return add("peers", address);
    }

    /** Adds a URL to ask for the network and its nodes. */
    public KoggeConfig bootstrapUrl(String url) {
        return add("bootstrap_urls", url);
    }

    /** Sets all keys that a text in the form of the configuration file sets. */
    public KoggeConfig toml(String toml) {
        byte[] text = Native.utf8(toml);
        return with(config -> Native.configMerge(config, text));
    }

    /** The network with this genesis, which the data folder joins if it has joined none. */
    public KoggeConfig genesis(byte[] genesis) {
        byte[] bytes = genesis.clone();
        return with(config -> Native.configNetwork(config, Native.NETWORK_GENESIS, bytes));
    }

    /**
     * The network with the genesis in a file.
     *
     * @throws IOException if the file cannot be read
     */
    public KoggeConfig genesis(Path file) throws IOException {
        return genesis(Files.readAllBytes(file));
    }

    /**
     * The network that the data folder has joined, and no other. Without this and a genesis, a folder
     * that has joined none begins a network in which this node alone decides.
     */
    public KoggeConfig stored() {
        return with(config -> Native.configNetwork(config, Native.NETWORK_STORED, new byte[0]));
    }

    /**
     * Sends the node's log up to a level to {@code consumer}: such as INFO, which has warnings and
     * errors too, or OFF. One thread per node ({@code kogge-log}, a daemon) calls it, a moment after the
     * line was written and until the last line was told, which is after the node was closed. Meanwhile
     * the node waits for nothing: if a thousand lines wait, the next ones are dropped, and a line tells
     * how many. What it throws goes to the thread's uncaught exception handler, and the next line comes
     * nevertheless.
     */
    public KoggeConfig log(Level level, Consumer<? super LogLine> consumer) {
        int number = LogLine.number(level);
        Objects.requireNonNull(consumer);
        return with(config -> LogLine.read(Native.configLog(config, number), consumer));
    }

    private KoggeConfig with(Setting setting) {
        settings.add(setting);
        return this;
    }

    /** The library's form of it, which the caller frees. */
    long build() throws KoggeException {
        long config = Native.configNew(Native.ABI_VERSION);
        try {
            for (Setting setting : settings) {
                setting.apply(config);
            }
            return config;
        } catch (KoggeException | RuntimeException | Error e) {
            Native.configFree(config);
            throw e;
        }
    }
}
