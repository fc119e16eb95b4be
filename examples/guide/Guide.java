import dev.kogge.ArtifactInfo;
import dev.kogge.FetchRequest;
import dev.kogge.KoggeConfig;
import dev.kogge.KoggeNode;
import java.nio.file.Path;
import java.time.Duration;

/**
 * Fetches one artifact with a node inside this program, and prints its size, SHA-256 and log index.
 *
 * <p>Usage: Guide WHAT DATA_DIR GENESIS PEER
 */
public final class Guide {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 4) {
            System.err.println("usage: Guide WHAT DATA_DIR GENESIS PEER");
            System.exit(2);
        }
        KoggeConfig config = KoggeConfig.in(Path.of(arguments[1]))
                .genesis(Path.of(arguments[2]))
                .peer(arguments[3]);
        try (KoggeNode node = KoggeNode.open(config)) {
            node.live().await(Duration.ofSeconds(30));
            ArtifactInfo info = node.fetchToStore(FetchRequest.of(arguments[0])).await();
            System.out.println(info.size() + " " + info.sha256() + " " + info.logIndex());
        }
    }
}
