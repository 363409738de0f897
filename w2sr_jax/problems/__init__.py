"""Where questions come from: a generated family of arithmetic word problems, JSON Lines and Parquet files; and splits by id."""
