"""The words of the system: aspects, texts, histories, profiles, the columns of tables, what good data is."""
