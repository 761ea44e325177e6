package treue.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.Set;

/**
 * A purchase as the demo program counts it: one point per 1.00 of eligible net, rounded down once.
 *
 * <p>Only what the benchmark's events contain: line discounts, no order discount, no tax deduction. The
 * harness compares every customer's total with the product's own, so a shortcut that mattered would show.
 */
final class Points {
  private static final JsonFactory JSON = new JsonFactory();
  private static final Set<String> SKUS = Set.of("POST", "DOT", "M", "D", "BANK CHARGES", "C2");
  private static final Set<String> KINDS = Set.of("gift_card", "shipping", "fee", "tip");

  final String id;
  final String customer;
  final long points;

  private Points(String id, String customer, long points) {
    this.id = id;
    this.customer = customer;
    this.points = points;
  }

  /** Reads the envelope in one pass of a streaming parser. */
  static Points of(byte[] event) {
    String id = null;
    String source = null;
    String type = null;
    String customer = null;
    BigDecimal net = BigDecimal.ZERO;
    try (JsonParser parser = JSON.createParser(event)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        parser.nextToken();
        switch (name) {
          case "id" -> id = parser.getText();
          case "source" -> source = parser.getText();
          case "type" -> type = parser.getText();
          case "data" -> {
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
              String field = parser.currentName();
              JsonToken token = parser.nextToken();
              if (field.equals("customer_id") && token != JsonToken.VALUE_NULL) {
                customer = parser.getText();
              } else if (field.equals("lines")) {
                while (parser.nextToken() == JsonToken.START_OBJECT) {
                  net = net.add(line(parser));
                }
              } else {
                parser.skipChildren();
              }
            }
          }
          default -> parser.skipChildren();
        }
      }
    } catch (IOException broken) {
      throw new IllegalArgumentException(broken);
    }
    if (!"treue.purchase.completed.v1".equals(type)) {
      throw new IllegalArgumentException("unexpected type " + type);
    }
    return new Points(source + '\n' + id, customer, net.setScale(0, RoundingMode.FLOOR).longValueExact());
  }

  private static BigDecimal line(JsonParser parser) throws IOException {
    String sku = "";
    String kind = "product";
    BigDecimal quantity = BigDecimal.ZERO;
    BigDecimal price = BigDecimal.ZERO;
    BigDecimal discount = BigDecimal.ZERO;
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      String field = parser.currentName();
      parser.nextToken();
      switch (field) {
        case "sku" -> sku = parser.getText();
        case "kind" -> kind = parser.getText();
        case "quantity" -> quantity = new BigDecimal(parser.getText());
        case "unit_price" -> price = new BigDecimal(parser.getText());
        case "discount" -> discount = new BigDecimal(parser.getText());
        default -> parser.skipChildren();
      }
    }
    if (SKUS.contains(sku) || KINDS.contains(kind)) {
      return BigDecimal.ZERO;
    }
    return quantity.multiply(price).subtract(discount).max(BigDecimal.ZERO);
  }
}
