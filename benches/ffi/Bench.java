import dev.kogge.Artifact;
import dev.kogge.FetchRequest;
import dev.kogge.KoggeConfig;
import dev.kogge.KoggeNode;
import dev.kogge.LogQuery;
import dev.kogge.PlaceOption;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * Figures of the Java binding, one per line: name, tab, value.
 *
 * <p>Usage: Bench DATA_DIR WHAT_TINY WHAT_LARGE OUT_FOLDER, where both names are digests.
 */
public final class Bench {
    private static final int OPENS = 11;
    private static final int CALLS = 20_000;
    private static final int LINKS = 21;
    private static final int QUERIES = 201;
    private static final int STREAMS = 3;

    /** What the JVM has compiled by then is measured. */
    private static final int WARM = 5_000;

    private static final int CHUNK_BYTES = 1 << 20;

    private interface Step {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 4) {
            System.err.println("usage: Bench DATA_DIR WHAT_TINY WHAT_LARGE OUT_FOLDER");
            System.exit(2);
        }
        KoggeConfig config = KoggeConfig.in(Path.of(arguments[0])).stored()
                .set("limits.disk_mb", 20_000);
        double[] opens = new double[OPENS];
        for (int i = 0; i < OPENS; i++) {
            long begin = System.nanoTime();
            KoggeNode node = KoggeNode.open(config);
            opens[i] = (System.nanoTime() - begin) / 1e9;
            node.close();
        }
        print("open_s", median(opens));
        try (KoggeNode node = KoggeNode.open(config)) {
            FetchRequest tiny = FetchRequest.of(arguments[1]);
            Step fetch = () -> node.fetchBytes(tiny).await();
            measure(WARM, fetch);
            print("fetch_10k_s", measure(CALLS, fetch));

            FetchRequest large = FetchRequest.of(arguments[2]);
            Path file = Path.of(arguments[3], "linked-by-java");
            print("link_s", measure(LINKS, () -> node.fetchTo(large, file, PlaceOption.REPLACE,
                    PlaceOption.HARD_LINK).await()));
            try (Artifact artifact = node.fetch(large).await()) {
                ByteBuffer chunk = ByteBuffer.allocateDirect(CHUNK_BYTES);
                double seconds = measure(STREAMS, () -> {
                    int count;
                    for (long at = 0; (count = artifact.read(at, chunk.clear())) > 0; ) {
                        at += count;
                    }
                });
                print("stream_gb_per_s", artifact.size() / seconds / 1e9);
            }
            Step query = () -> {
                try (LogQuery cursor = node.queryLog("order=oldest limit=1000")) {
                    int found = cursor.nextPage().size();
                    if (found != 1_000) {
                        throw new IllegalStateException("the log has " + found + " entries");
                    }
                }
            };
            measure(QUERIES, query);
            print("query_1000_s", measure(QUERIES, query));
        }
    }

    /** The median of so many runs. Unit: seconds. */
    private static double measure(int count, Step step) throws Exception {
        double[] values = new double[count];
        for (int i = 0; i < count; i++) {
            long begin = System.nanoTime();
            step.run();
            values[i] = (System.nanoTime() - begin) / 1e9;
        }
        return median(values);
    }

    private static double median(double[] values) {
        Arrays.sort(values);
        return values[values.length / 2];
    }

    private static void print(String name, double value) {
        System.out.printf(java.util.Locale.ROOT, "%s\t%.9f%n", name, value);
    }
}
