"""The four stages that ask a model: tables to questions, and answers to tables."""
